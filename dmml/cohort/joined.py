"""Joins several cohorts into one: all patients, the genes that every cohort measures, and folds with equal numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

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

_MIN_SHARED_GENES = (
    0.5  # share of a subspace's genes in any cohort; with fewer, the smallest table would limit the others
)


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
    _check_patients_differ(cohorts, names)
    clinical = _join_clinical(cohorts, names)
    return Cohort(
        name="+".join(names),
        clinical=clinical,
        expression=_join_expression(cohorts, names),
        gene_sets=cohorts[0].gene_sets,
        split=_join_splits(cohorts, names),
        fold=cohorts[0].fold,
        gene_choice=cohorts[0].gene_choice,
        members=list(cohorts),
    )


def confounded_classes(cohort: Cohort) -> list[str]:
    """Classes that only one member of a joined cohort has, so that a model can recognise them by the laboratory."""
    if cohort.clinical.kind != "classification" or len(cohort.members) < 2:
        return []
    cohorts_with = Counter(label for member in cohort.members for label in member.clinical.classes)
    return sorted(label for label, count in cohorts_with.items() if count == 1)


def joined_doubts(cohort: Cohort) -> list[str]:
    """Describe what distinguishes the members of a joined cohort: classes, levels of covariates, the RNA platform."""
    doubts = []
    if classes := confounded_classes(cohort):
        doubts.append(
            f"{', '.join(classes)}: only patients of one cohort are of this class, so a model may learn to recognise the "
            "laboratory"
        )
    for column, levels in _levels_of_one_cohort(cohort).items():
        text = ", ".join(f"{level} ({name})" for level, name in levels.items())
        doubts.append(f"{column}: levels of one cohort only: {text}; are they spelled differently in another?")
    return doubts + _platform_differences(cohort)


def _levels_of_one_cohort(cohort: Cohort) -> dict[str, dict[str, str]]:
    """Levels of text covariates that only one member has: {covariate: {level: name of the member}}."""
    levels_of_one: dict[str, dict[str, str]] = {}
    for column in cohort.clinical.covariates if len(cohort.members) > 1 else ():
        members_with: dict[str, list[str]] = {}
        for member in cohort.members:
            values = member.clinical.covariates[column].dropna()
            for level in () if pd.api.types.is_numeric_dtype(values) else values.unique():
                members_with.setdefault(str(level), []).append(member.name)
        if single := {level: names[0] for level, names in members_with.items() if len(names) == 1}:
            levels_of_one[column] = single
    return levels_of_one


def _platform_differences(cohort: Cohort) -> list[str]:
    """Describe pairs of members whose typical gene is shifted by more than `MAX_SHIFT` standard deviations."""
    tables = {member.name: member.expression for member in cohort.members if member.expression is not None}
    if cohort.expression is None or len(tables) < 2:
        return []
    genes = list(cohort.expression.table.columns)
    values = {name: model_values(expression)[genes] for name, expression in tables.items()}
    doubts = []
    for first, second in combinations(tables, 2):
        statistics = fit_statistics(values[first], genes, tables[first].scale)
        shift = median_shift(values[second], statistics)
        if np.isfinite(shift) and shift > MAX_SHIFT:
            doubts.append(
                f"RNA of {second}: the median gene lies {shift:.1f} standard deviations from its mean in {first}; is it of "
                "another platform? A model can tell the cohorts by that: train on one, and test the other with "
                "standardise: within_cohort"
            )
    return doubts


def _distinct_names(cohorts: Sequence[Cohort]) -> list[str]:
    names = [cohort.name for cohort in cohorts]
    if repeated := next((name for name, count in Counter(names).items() if count > 1), None):
        raise InputError(f"data: two cohorts are called {repeated!r}; give each a name of its own (data: name)")
    return names


def _check_patients_differ(cohorts: Sequence[Cohort], names: Sequence[str]) -> None:
    cohort_of: dict[str, str] = {}
    for cohort, name in zip(cohorts, names, strict=True):
        repeated = [patient for patient in cohort.clinical.patients.index if patient in cohort_of]
        if repeated:
            raise InputError(
                f"data: {len(repeated)} patient(s) are in both {cohort_of[repeated[0]]} and {name} (first: {repeated[0]}); "
                "leave them in one table, or give different people different ids"
            )
        cohort_of |= dict.fromkeys(cohort.clinical.patients.index, name)


def _join_clinical(cohorts: Sequence[Cohort], names: Sequence[str]) -> Clinical:
    tables = [cohort.clinical for cohort in cohorts]
    kinds = {table.kind for table in tables}
    if len(kinds) > 1:
        outcomes = ", ".join(f"{name}: {table.kind or 'none'}" for name, table in zip(names, tables, strict=True))
        raise InputError(
            f"data: cohorts trained together share one task, but their outcomes differ ({outcomes}); name the same kind"
        )
    _check_same_covariates(tables, names)
    patients = []
    for name, table in zip(names, tables, strict=True):
        of_cohort = table.patients.copy()
        if "site" in of_cohort:
            of_cohort["site"] = of_cohort["site"].map(lambda site, name=name: f"{name}/{site}", na_action="ignore")
        patients.append(of_cohort)
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


def _check_same_covariates(tables: Sequence[Clinical], names: Sequence[str]) -> None:
    first = tables[0].covariates
    for name, table in zip(names[1:], tables[1:], strict=True):
        different = set(first.columns) ^ set(table.covariates.columns)
        if different:
            raise InputError(
                f"data: the covariate {min(different)!r} is named in only one of {names[0]} and {name}; name the same in both"
            )
        for column in first:
            levels = [clinical.covariate_levels.get(column) for clinical in (tables[0], table)]
            if levels[0] != levels[1]:
                raise InputError(
                    f"data: the levels of the covariate {column!r} are stated differently in {names[0]} and {name}; state the "
                    "same in both"
                )
            is_numeric = [pd.api.types.is_numeric_dtype(covariates[column]) for covariates in (first, table.covariates)]
            if is_numeric[0] != is_numeric[1]:
                raise InputError(
                    f"data: the covariate {column!r} holds numbers in {names[0] if is_numeric[0] else name} and words in the "
                    "other cohort; code it in the same way in both"
                )


def _join_expression(cohorts: Sequence[Cohort], names: Sequence[str]) -> Expression | None:
    expressions = {name: c.expression for name, c in zip(names, cohorts, strict=True) if c.expression is not None}
    if not expressions:
        return None
    scale = _common_scale(expressions, cohorts[0].clinical.kind)
    tables = {name: model_values(expression) for name, expression in expressions.items()}
    first = next(iter(tables.values()))
    shared = set(first.columns).intersection(*(table.columns for table in tables.values()))
    measured = set().union(*(table.columns for table in tables.values()))
    for subspace in SUBSPACES:
        genes = set(genes_of(cohorts[0].gene_sets[subspace])) & measured
        if len(genes & shared) < _MIN_SHARED_GENES * len(genes):
            poorest = min(expressions, key=lambda name: len(genes & set(expressions[name].table.columns)))
            raise InputError(
                f"data: of {len(genes)} {subspace} genes only {len(genes & shared)} are in every cohort ({poorest} has "
                "the fewest); leave that cohort's expression out, or give a table with more genes"
            )
    columns = [gene for gene in first.columns if gene in shared]
    joined = pd.concat([table[columns] for table in tables.values()])
    provenance = {
        "sources": [source for each in expressions.values() for source in each.provenance.get("sources", [])],
        "scale": scale,
        "counts": {"genes_not_in_every_cohort_dropped": len(measured) - len(shared)},
        "cohorts": {name: expression.provenance for name, expression in expressions.items()},
    }
    return Expression(joined.rename_axis("patient_id"), scale, provenance, on_model_scale=True)


def _common_scale(expressions: Mapping[str, Expression], outcome_kind: str | None) -> str:
    """The scale that all RNA tables have.

    Raises:
        InputError: The scales differ, or the tables were z-scored one by one while the outcome is a label.
    """
    scales = {expression.scale for expression in expressions.values()}
    if len(scales) > 1:
        text = ", ".join(f"{name}: {expression.scale}" for name, expression in expressions.items())
        raise InputError(
            f"data: the RNA tables are on different scales ({text}), by which a model could tell the cohorts apart; give "
            "tables of one scale"
        )
    if scales == {"zscore"} and len(expressions) > 1 and outcome_kind == "classification":
        raise InputError(
            "data: RNA tables that were z-scored one by one hide what tells the cohorts' classes apart and fake the rest; "
            "give tables of one linear or log2 scale"
        )
    return scales.pop()


def _join_splits(cohorts: Sequence[Cohort], names: Sequence[str]) -> Split | None:
    splits = [cohort.split for cohort in cohorts if cohort.split is not None]
    if not splits:
        return None
    for name, cohort in zip(names, cohorts, strict=True):
        if cohort.split is None or set(cohort.split.folds) != set(splits[0].folds):
            has = "no split" if cohort.split is None else f"the folds {sorted(cohort.split.folds)}"
            raise InputError(
                f"data: {name} has {has}, unlike another cohort; give every cohort the same fold numbers, or all of them "
                "{folds: n}"
            )
    return Split(
        {k: _join_fold(cohorts, splits, k) for k in splits[0].folds},
        source=" + ".join(split.source for split in splits),
        unknown=[patient for split in splits for patient in split.unknown],
        unused=[patient for split in splits for patient in split.unused],
        by_site=all(split.by_site for split in splits),
    )


def _join_fold(cohorts: Sequence[Cohort], splits: Sequence[Split], k: int) -> Fold:
    """Join fold k of the members; if the split of one names validation patients, those of the others are carved."""
    folds = [split[k] for split in splits]
    names_validation = any(fold.validation is not None for fold in folds)
    if names_validation:
        folds = [
            _with_validation(cohort, fold, split.by_site)
            for cohort, fold, split in zip(cohorts, folds, splits, strict=True)
        ]
    return Fold(
        [patient for fold in folds for patient in fold.train],
        [patient for fold in folds for patient in fold.test],
        [patient for fold in folds for patient in fold.validation or []] if names_validation else None,
    )


def _with_validation(cohort: Cohort, fold: Fold, by_site: bool) -> Fold:
    """Add an inner validation set to a fold, carved from its training patients, unless the source names one."""
    if fold.validation is not None:
        return fold
    train, validation = carve_validation(cohort.clinical, fold.train, site=by_site)
    return Fold(train, fold.test, validation)
