"""Joins several cohorts into one: all patients, the genes that every cohort measures, and folds with equal numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from dmml.cohort.clinical.outcome import check_label_spellings
from dmml.cohort.clinical.table import Clinical
from dmml.cohort.cohort import Cohort
from dmml.cohort.gene_sets.gene_sets import SUBSPACES, genes_of
from dmml.cohort.rna.expression import Expression, model_values
from dmml.cohort.rna.standardise import MAX_SHIFT, fit_statistics, median_shift
from dmml.cohort.splits.inner_folds import carve_validation
from dmml.cohort.splits.split import Fold, Split
from dmml.errors import InputError

_FEWEST_SHARED = 0.5  # of a subspace's genes in any cohort; with fewer, the smallest table would limit the others


def join_cohorts(cohorts: Sequence[Cohort]) -> Cohort:
    """Join cohorts for training on all of them.

    Only genes that every cohort with RNA measures are kept; the others are counted and dropped. Site names are prefixed
    with the cohort's name. Fold k of the joined cohort consists of fold k of each member.

    Args:
        cohorts: Cohorts with the same kind of outcome and the same covariates.

    Raises:
        InputError: Two cohorts have the same name or share a patient, outcomes or covariates differ in kind, RNA
            differs in scale, RNA was z-scored in each cohort while the outcome is a label, too few genes are shared, or
            the folds differ.
    """
    names = _distinct_names(cohorts)
    _refuse_clash(cohorts, names)
    clinical = _join_clinical(cohorts, names)
    return Cohort(
        name="+".join(names),
        clinical=clinical,
        expression=_join_expression(cohorts, names),
        gene_sets=cohorts[0].gene_sets,
        split=_join_splits(cohorts, names),
        fold=cohorts[0].fold,
        preset=cohorts[0].preset,
        members=list(cohorts),
    )


def confounded_classes(cohort: Cohort) -> list[str]:
    """Classes that only one member of a joined cohort has, so that a model can recognise them by the laboratory."""
    if cohort.clinical.kind != "classification" or len(cohort.members) < 2:
        return []
    found = Counter(label for member in cohort.members for label in member.clinical.classes)
    return sorted(label for label, count in found.items() if count == 1)


def joined_doubts(cohort: Cohort) -> list[str]:
    """Describe what distinguishes the members of a joined cohort: classes, levels of covariates, the RNA platform."""
    doubts = []
    if classes := confounded_classes(cohort):
        told = ", ".join(classes)
        doubts.append(f"{told}: patients of one cohort only, so that a model may learn the laboratory")
    for column, levels in _levels_of_one(cohort).items():
        told = ", ".join(f"{level} ({name})" for level, name in levels.items())
        doubts.append(f"{column}: levels of one cohort only: {told}; are they spelt otherwise in another?")
    return doubts + _platforms_apart(cohort)


def _levels_of_one(cohort: Cohort) -> dict[str, dict[str, str]]:
    """Levels of text covariates that only one member has: {covariate: {level: name of the member}}."""
    found: dict[str, dict[str, str]] = {}
    for column in cohort.clinical.covariates if len(cohort.members) > 1 else ():
        owners: dict[str, list[str]] = {}
        for member in cohort.members:
            values = member.clinical.covariates[column].dropna()
            for level in () if pd.api.types.is_numeric_dtype(values) else values.unique():
                owners.setdefault(str(level), []).append(member.name)
        alone = {level: names[0] for level, names in owners.items() if len(names) == 1}
        found |= {column: alone} if alone else {}
    return found


def _platforms_apart(cohort: Cohort) -> list[str]:
    """Describe pairs of members whose typical gene is shifted by more than `MAX_SHIFT` standard deviations."""
    measured = [member for member in cohort.members if member.expression is not None]
    if len(measured) < 2:
        return []
    genes = list(cohort.expression.table.columns)
    values = [model_values(member.expression)[genes] for member in measured]
    doubts = []
    for i, one in enumerate(measured):
        fitted = fit_statistics(values[i], genes, one.expression.scale)
        for j in range(i + 1, len(measured)):
            shift = median_shift(values[j], fitted)
            if np.isfinite(shift) and shift > MAX_SHIFT:
                doubts.append(
                    f"RNA of {measured[j].name}: the median gene lies {shift:.1f} standard deviations from its mean in "
                    f"{one.name}; is it of another platform? A model can tell the cohorts by that: train on one, and test "
                    "the other with standardise: within_cohort"
                )
    return doubts


def _distinct_names(cohorts: Sequence[Cohort]) -> list[str]:
    names = [cohort.name for cohort in cohorts]
    if twice := next((name for name, count in Counter(names).items() if count > 1), None):
        raise InputError(f"data: two cohorts are called {twice!r}; give each a name of its own (data: name)")
    return names


def _refuse_clash(cohorts: Sequence[Cohort], names: Sequence[str]) -> None:
    owner: dict[str, str] = {}
    for cohort, name in zip(cohorts, names, strict=True):
        both = [patient for patient in cohort.clinical.patients.index if patient in owner]
        if both:
            raise InputError(
                f"data: {len(both)} patient(s) are in both {owner[both[0]]} and {name} (first: {both[0]}); leave them in "
                "one table, or give different people different ids"
            )
        owner |= dict.fromkeys(cohort.clinical.patients.index, name)


def _join_clinical(cohorts: Sequence[Cohort], names: Sequence[str]) -> Clinical:
    tables = [cohort.clinical for cohort in cohorts]
    kinds = {table.kind for table in tables}
    if len(kinds) > 1:
        told = ", ".join(f"{name}: {table.kind or 'none'}" for name, table in zip(names, tables, strict=True))
        raise InputError(f"data: cohorts trained together share one task, but their outcomes are {told}; name the same")
    _refuse_covariates(tables, names)
    patients = []
    for name, table in zip(names, tables, strict=True):
        own = table.patients.copy()
        if "site" in own:
            own["site"] = own["site"].map(lambda site, name=name: f"{name}/{site}", na_action="ignore")
        patients.append(own)
    if kinds == {"classification"}:
        check_label_spellings("data", pd.concat([table.patients["label"] for table in tables]))
    return Clinical(
        patients=pd.concat(patients),
        covariates=pd.concat([table.covariates for table in tables]),
        slides={patient: slides for table in tables for patient, slides in table.slides.items()},
        source=" + ".join(table.source for table in tables),
        names_slides=all(table.names_slides for table in tables),
        site_conflicts=[patient for table in tables for patient in table.site_conflicts],
        covariate_conflicts={
            column: [patient for table in tables for patient in table.covariate_conflicts.get(column, [])]
            for column in dict.fromkeys(column for table in tables for column in table.covariate_conflicts)
        },
        covariate_levels=tables[0].covariate_levels,
    )


def _refuse_covariates(tables: Sequence[Clinical], names: Sequence[str]) -> None:
    first = tables[0].covariates
    for name, table in zip(names[1:], tables[1:], strict=True):
        apart = set(first.columns) ^ set(table.covariates.columns)
        if apart:
            raise InputError(
                f"data: the covariate {min(apart)!r} is named in one of {names[0]} and {name} only; name the same in both"
            )
        for column in first:
            levels = [one.covariate_levels.get(column) for one in (tables[0], table)]
            if levels[0] != levels[1]:
                raise InputError(
                    f"data: the levels of the covariate {column!r} are not stated alike in {names[0]} and {name}; state the same"
                )
            numeric = [pd.api.types.is_numeric_dtype(one[column]) for one in (first, table.covariates)]
            if numeric[0] != numeric[1]:
                raise InputError(
                    f"data: the covariate {column!r} holds numbers in {names[0 if numeric[0] else names.index(name)]} and "
                    "words in the other; code both alike"
                )


def _join_expression(cohorts: Sequence[Cohort], names: Sequence[str]) -> Expression | None:
    measured = [(name, cohort) for name, cohort in zip(names, cohorts, strict=True) if cohort.expression is not None]
    if not measured:
        return None
    scales = {cohort.expression.scale for _, cohort in measured}
    if len(scales) > 1:
        told = ", ".join(f"{name}: {cohort.expression.scale}" for name, cohort in measured)
        raise InputError(f"data: RNA on different scales ({told}); what tells them apart would be the scale, give one")
    if scales == {"zscore"} and len(measured) > 1 and cohorts[0].clinical.kind == "classification":
        raise InputError(
            "data: RNA tables that were z-scored one by one hide what tells the cohorts' classes apart and fake the rest; "
            "give tables of one linear or log2 scale"
        )
    tables = [model_values(cohort.expression) for _, cohort in measured]
    shared = set(tables[0].columns).intersection(*(table.columns for table in tables[1:]))
    every = set().union(*(table.columns for table in tables))
    for subspace in SUBSPACES:
        wanted = set(genes_of(cohorts[0].gene_sets[subspace])) & every
        if len(wanted & shared) < _FEWEST_SHARED * len(wanted):
            poorest = min(measured, key=lambda pair: len(wanted & set(pair[1].expression.table.columns)))[0]
            raise InputError(
                f"data: of {len(wanted)} {subspace} genes only {len(wanted & shared)} are in every cohort ({poorest} has "
                "the fewest); leave that cohort's expression out, or give a table with more genes"
            )
    columns = [gene for gene in tables[0].columns if gene in shared]
    joined = pd.concat([table[columns] for table in tables])
    provenance = {
        "sources": [source for _, cohort in measured for source in cohort.expression.provenance.get("sources", [])],
        "scale": scales.copy().pop(),
        "counts": {"genes_not_in_every_cohort_dropped": len(every) - len(shared)},
        "cohorts": {name: cohort.expression.provenance for name, cohort in measured},
    }
    return Expression(joined.rename_axis("patient_id"), scales.pop(), provenance, on_model_scale=True)


def _join_splits(cohorts: Sequence[Cohort], names: Sequence[str]) -> Split | None:
    splits = [cohort.split for cohort in cohorts]
    if all(split is None for split in splits):
        return None
    for name, split in zip(names, splits, strict=True):
        if split is None or set(split.folds) != set(next(filter(None, splits)).folds):
            raise InputError(
                f"data: {name} has {'no split' if split is None else f'the folds {sorted(split.folds)}'}, another cohort "
                "has others; every cohort needs the same fold numbers, or all {folds: n}"
            )
    folds = {}
    for k in splits[0].folds:
        own = [split[k] for split in splits]
        named = any(fold.validation is not None for fold in own)
        parts = [
            _with_validation(cohort, fold, split.by_site) if named else fold
            for cohort, fold, split in zip(cohorts, own, splits, strict=True)
        ]
        folds[k] = Fold(
            [patient for fold in parts for patient in fold.train],
            [patient for fold in parts for patient in fold.test],
            [patient for fold in parts for patient in fold.validation] if named else None,
        )
    unknown = [patient for split in splits for patient in split.unknown]
    unused = [patient for split in splits for patient in split.unused]
    source = " + ".join(split.source for split in splits)
    return Split(folds, source, unknown, unused, by_site=all(split.by_site for split in splits))


def _with_validation(cohort: Cohort, fold: Fold, by_site: bool) -> Fold:
    """Add an inner validation set to a fold, carved from its training patients, unless the source names one."""
    if fold.validation is not None:
        return fold
    train, validation = carve_validation(cohort.clinical, fold.train, site=by_site)
    return Fold(train, fold.test, validation)
