"""Reads a cohort from the data section of a config: clinical table, RNA, gene sets and split, joined into one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dmml.cohort.clinical.table import Clinical, read_clinical
from dmml.cohort.cohort import Cohort
from dmml.cohort.cohort_config import CohortConfig
from dmml.cohort.config_paths import check_files_exist
from dmml.cohort.gene_sets.gene_choice import split_choice
from dmml.cohort.gene_sets.gene_sets import read_gene_sets
from dmml.cohort.id_matching import differently_spelled, match_ids_one_to_one
from dmml.cohort.joined import join_cohorts
from dmml.cohort.rna.expression import Expression, read_expression
from dmml.cohort.splits.make_folds import make_folds
from dmml.cohort.splits.read_splits import read_split
from dmml.cohort.splits.split import Split, split_of_folds
from dmml.cohort.tables.id_columns import check_damaged
from dmml.errors import InputError


def read_cohort(config: CohortConfig | Mapping[str, Any]) -> Cohort:
    """Read the cohort that a config's data section describes; cohorts under `also` are joined to it.

    Args:
        config: The config, or a data section with the same arguments; its other arguments are ignored. Of `features`
            only the existence is checked.

    Raises:
        InputError: Files are missing (one message lists all of them with the options that name them), neither
            expression nor features is named, RNA and clinical table share no patient, or a file is refused by its
            reader.
    """
    check_files_exist(config.section() if isinstance(config, CohortConfig) else config)
    config = config if isinstance(config, CohortConfig) else CohortConfig.from_section(config)
    if config.also:
        return join_cohorts([read_cohort(cohort) for cohort in config.each_cohort()])
    clinical = read_clinical(
        config.clinical,
        patient_id=config.patient_id,
        slide_id=config.slide_id,
        site=_site_column(config.split),
        outcome=config.outcome,
        covariates=config.covariates,
    )
    fold = int(config.fold)
    split = None if config.split is None else _read_or_make_split(config.split, clinical)
    if split is not None:
        split.fold(fold)  # refuses an invalid fold before the RNA is read
    lists, gene_choice = split_choice(config.gene_sets)
    gene_sets = read_gene_sets(lists)
    expression = read_expression(config.expression) if config.expression else None
    if expression is not None:
        expression = _with_ids_of(clinical, expression)
    return Cohort(
        name=config.name or Path(config.clinical).resolve().parent.name,
        clinical=clinical,
        expression=expression,
        gene_sets=gene_sets,
        split=split,
        fold=fold,
        features=None if config.features is None else str(config.features),
        gene_choice=gene_choice,
    )


def _with_ids_of(clinical: Clinical, expression: Expression) -> Expression:
    """Rename the patients of the RNA to the ids of the clinical table, which may have `1040` instead of `1040.0`.

    Raises:
        InputError: The ids of the RNA are damaged or spelled differently, or no patient is in the clinical table.
    """
    check_damaged("expression", expression.patients, [f"patient {i + 1}" for i in range(len(expression.patients))])
    matched = match_ids_one_to_one(expression.patients, clinical.patients.index, "expression")
    expression = replace(expression, table=expression.table.rename(index=matched)) if matched else expression
    clinical_ids, rna_ids = list(clinical.patients.index), expression.patients
    if spellings := differently_spelled(clinical_ids, rna_ids):
        clinical_id, rna_id = next(iter(spellings.items()))
        raise InputError(
            f"expression: {len(spellings)} patients of {clinical.source} are spelled differently in the RNA table "
            f"({clinical_id!r} here, {rna_id!r} there); write ids alike in both, or map samples with "
            "`dmml cohort expression --patients`"
        )
    if not set(rna_ids) & set(clinical_ids):
        raise InputError(
            f"expression: no patient of the RNA table ({rna_ids[0]!r}, …) is in {clinical.source} ({clinical_ids[0]!r}, …); "
            "use the same ids in both, or map samples with `dmml cohort expression --patients`"
        )
    return expression


def _site_column(split: str | Mapping[str, Any] | None) -> str:
    """Name of the site column: the one that the split names, or `site`."""
    site = split.get("site") if isinstance(split, Mapping) else None
    return site if isinstance(site, str) else "site"


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
