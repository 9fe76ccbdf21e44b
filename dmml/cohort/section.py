"""Reads a cohort from the data section of a config: clinical table, RNA, gene sets and split, joined into one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dmml.cohort.clinical.table import Clinical, read_clinical
from dmml.cohort.cohort import Cohort
from dmml.cohort.config_paths import refuse_missing
from dmml.cohort.gene_sets.gene_preset import split_preset
from dmml.cohort.gene_sets.gene_sets import read_gene_sets
from dmml.cohort.id_matching import differently_spelled, match_ids_one_to_one
from dmml.cohort.joined import join_cohorts
from dmml.cohort.rna.expression import Expression, read_expression
from dmml.cohort.splits.make_folds import make_folds
from dmml.cohort.splits.read_splits import Split, read_split, split_of_folds
from dmml.cohort.tables.id_columns import check_damaged
from dmml.errors import InputError


def read_cohort(section: Mapping[str, Any]) -> Cohort:
    """Read the cohort that a config's data section names.

    Args:
        section: `clinical`, and optionally `name`, `patient_id`, `slide_id`, `site`, `outcome`, `covariates`,
            `expression`, `gene_sets`, `features` (only its existence is checked), `split`, `fold`, and `also`: further
            sections, whose cohorts are joined to this one. Other keys are ignored.

    Raises:
        InputError: Files are missing (one message lists all of them with the options that name them), neither
            expression nor features is named, RNA and clinical table share no patient, or a file is refused by its
            reader.
    """
    refuse_missing(section)
    if section.get("also"):
        own = {key: value for key, value in section.items() if key != "also"}
        return join_cohorts([read_cohort(one) for one in (own, *(_as_first(own, other) for other in section["also"]))])
    if not section.get("expression") and not section.get("features"):
        raise InputError(
            f"{section['clinical']}: neither expression nor features is named; a cohort needs at least one"
        )
    split = section.get("split")
    clinical = read_clinical(
        section["clinical"],
        patient_id=section.get("patient_id") or "patient_id",
        slide_id=section.get("slide_id", "slide_id"),
        site=_site_column(split, section.get("site", "site")),
        outcome=section.get("outcome"),
        covariates=section.get("covariates"),
    )
    fold = int(section.get("fold") or 0)
    parts = None if split is None else _read_or_make_split(split, clinical)
    if parts is not None:
        parts.fold(fold)  # refuses an invalid fold before the RNA is read
    lists, preset = split_preset(section.get("gene_sets"))
    gene_sets = read_gene_sets(lists)
    expression = read_expression(section["expression"]) if section.get("expression") else None
    if expression is not None:
        expression = _with_ids_of(clinical, expression)
    name = section.get("name") or Path(section["clinical"]).resolve().parent.name
    features = section.get("features")
    features = None if features is None else str(features)
    return Cohort(name, clinical, expression, gene_sets, parts, fold, features, preset)


def _with_ids_of(clinical: Clinical, expression: Expression) -> Expression:
    """Rename the patients of the RNA to the ids of the clinical table, which may have `1040` instead of `1040.0`.

    Raises:
        InputError: The ids of the RNA are damaged or spelled differently, or no patient is in the clinical table.
    """
    check_damaged("expression", expression.patients, [f"patient {i + 1}" for i in range(len(expression.patients))])
    matched = match_ids_one_to_one(expression.patients, clinical.patients.index, "expression")
    expression = replace(expression, table=expression.table.rename(index=matched)) if matched else expression
    here, there = list(clinical.patients.index), expression.patients
    if unlike := differently_spelled(here, there):
        own, other = next(iter(unlike.items()))
        raise InputError(
            f"expression: {len(unlike)} patients of {clinical.source} are spelled differently in the RNA table ({own!r} here, "
            f"{other!r} there); write ids alike in both, or map samples with `dmml cohort expression --patients`"
        )
    if not set(there) & set(here):
        raise InputError(
            f"expression: no patient of the RNA table ({there[0]!r}, …) is in {clinical.source} ({here[0]!r}, …); "
            "use the same ids in both, or map samples with `dmml cohort expression --patients`"
        )
    return expression


def _as_first(first: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Complete a further section with the options that all cohorts share, including the rule for making folds."""
    shared = {key: first.get(key) for key in ("gene_sets", "fold")}
    split = other.get("split")
    if split is None and isinstance(first.get("split"), Mapping):
        split = {key: value for key, value in first["split"].items() if not isinstance(value, str)}
        split |= {"site": True} if isinstance(first["split"].get("site"), str) else {}
    return {**other, **shared, "split": split}


def _site_column(split: Any, default: str | None) -> str | None:
    """Name of the site column: the one that the split names, else the section's."""
    site = split.get("site") if isinstance(split, Mapping) else None
    return site if isinstance(site, str) else default


def _read_or_make_split(split: str | Path | Mapping[str, Any], clinical: Clinical) -> Split:
    if not isinstance(split, Mapping):
        return read_split(split, clinical)
    unknown = sorted(set(split) - {"folds", "stratify", "site", "seed"})
    if unknown:
        raise InputError(f"split: unknown key {unknown[0]!r}; it takes folds, stratify, site and seed, or a path")
    by_site = bool(split.get("site"))
    folds = make_folds(
        clinical, int(split.get("folds", 5)), bool(split.get("stratify", True)), by_site, int(split.get("seed", 0))
    )
    return split_of_folds(folds, f"{clinical.source} in {folds.nunique()} folds", by_site)
