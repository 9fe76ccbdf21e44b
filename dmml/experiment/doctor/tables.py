"""Examines the tables of a cohort: outcomes, covariates, RNA, and how patients, folds and sites match."""

from __future__ import annotations

import pandas as pd

from dmml.cohort.clinical.ordered_levels import levels_in_order
from dmml.cohort.clinical.plausibility import outcome_doubts
from dmml.cohort.clinical.table import Clinical
from dmml.cohort.cohort import Cohort
from dmml.cohort.cohort_summary import describe_rna
from dmml.cohort.gene_sets.gene_sets import SUBSPACES, genes_of
from dmml.cohort.joined import joined_doubts
from dmml.experiment.doctor.examination import Examination, State


def examine_outcome(examination: Examination, clinical: Clinical) -> None:
    """Report the patients and their outcomes, and doubts about the outcomes."""
    patients = clinical.patients
    text = f"{clinical.source}: {len(patients)} patients"
    if clinical.kind is None:
        text += ", but data.outcome names no outcome; that is enough for predict, not for fit or test"
        examination.add("outcome", text, "check")
        return
    text += f", {_describe_outcome(patients)}"
    if unknown := int((~clinical.observed).sum()):
        text += f", {unknown} without outcome"
    examination.add("outcome", text)
    for doubt in outcome_doubts(patients):
        examination.add("outcome", doubt, "check")


def _describe_outcome(patients: pd.DataFrame) -> str:
    """Describe events and follow-up, or the numbers of patients of each class, or the range of the values."""
    if "value" in patients:
        value = patients["value"].dropna()
        if not len(value):
            return "no known value"
        return f"values from {value.min():g} to {value.max():g}, mean {value.mean():.3g}, standard deviation {value.std(ddof=0):.3g}"
    if "time" not in patients:
        sizes = patients["label"].value_counts().sort_index()
        return ", ".join(f"{label}: {size}" for label, size in sizes.items())
    time, events = patients["time"].dropna(), int(patients["event"].sum())
    if not len(time):
        return f"{events} events, median time none years"
    median, longest = time.median() / 365.25, time.max() / 365.25
    return f"{events} events ({events / len(time):.0%}), median time {median:.1f} (longest {longest:.1f}) years"


def examine_covariates(examination: Examination, clinical: Clinical) -> None:
    """Report how each covariate is understood, and covariates with many levels, gaps or contradictory rows."""
    n_patients = len(clinical.patients)
    for column in clinical.covariates:
        values = clinical.covariates[column].dropna()
        if pd.api.types.is_numeric_dtype(values):
            description, has_many_levels = "numbers", False
        else:
            order = levels_in_order(values.unique(), column, clinical.covariate_levels.get(column))
            if order:  # words without a place in the order, such as TX, mean that the patient was not assessed
                values = values[values.isin(order)]
            levels = f" ({' < '.join(order)})" if order else " without order"
            description = f"{values.nunique()} levels{levels}"
            has_many_levels = values.nunique() > max(10, len(values) / 5)
        unknown = n_patients - len(values)
        text = f"{column}: {description}, {unknown} unknown"
        state: State = "check" if has_many_levels or unknown > n_patients / 2 else "ok"
        if conflicts := clinical.covariate_conflicts.get(column):
            text += f"; the rows of {len(conflicts)} patients differ ({conflicts[0]}, …), and the first row counts"
            state = "check"
        examination.add("covariate", text, state)


def examine_expression(examination: Examination, cohort: Cohort) -> None:
    """Report the RNA of a cohort, and how many genes of the gene sets it measures."""
    if cohort.expression is None:
        return
    examination.add("RNA", describe_rna(cohort.expression))
    usable = examination.attempt("gene sets", cohort.usable_gene_sets)
    if not usable:
        return
    for subspace in SUBSPACES:
        listed, measured = len(genes_of(cohort.gene_sets[subspace])), len(genes_of(usable[subspace]))
        text = f"{subspace}: {measured} of {listed} genes measured, {len(usable[subspace])} programs"
        examination.add("gene sets", text, "check" if measured < listed / 2 else "ok")


def examine_joined(examination: Examination, cohort: Cohort) -> None:
    """Report several cohorts as a whole."""
    if cohort.members:
        genes = "" if cohort.expression is None else f", {cohort.expression.table.shape[1]} genes in all"
        examination.add("together", f"{cohort.name}: {len(cohort.clinical.patients)} patients{genes}")
    for doubt in joined_doubts(cohort):
        examination.add("together", doubt, "check")


def examine_data_of_patients(examination: Examination, cohort: Cohort, with_slides: set[str]) -> None:
    """Report how many patients have slides, RNA, both or neither, and how many of them have an outcome."""
    patients = list(cohort.clinical.patients.index)
    with_rna = set() if cohort.expression is None else set(cohort.expression.patients)
    observed = cohort.clinical.observed
    neither = [p for p in patients if p not in with_rna and p not in with_slides]
    groups = {
        "slides and RNA": [p for p in patients if p in with_rna and p in with_slides],
        "RNA, no slides": [p for p in patients if p in with_rna and p not in with_slides],
        "slides, no RNA": [p for p in patients if p not in with_rna and p in with_slides],
        "neither (not used)": neither,
    }
    for name, members in groups.items():
        if members:
            outcomes = f", {int(observed[members].sum())} with outcome" if cohort.clinical.kind else ""
            examination.add(
                "join", f"{name}: {len(members)} patients{outcomes}", "check" if members is neither else "ok"
            )
    if len(neither) == len(patients):
        text = f"no patient ({patients[0]}, …) has slides or RNA; make sure that the tables use the same ids"
        examination.add("join", text, "blocks")
    if others := with_rna - set(patients):
        text = f"RNA of {len(others)} patients who are not in the clinical table (not used)"
        examination.add("join", text, "check")


def examine_split(examination: Examination, cohort: Cohort) -> None:
    """Report patients who are missing in the split, and ids of the split that are missing in the clinical table."""
    if cohort.split is None:
        return
    if unused := cohort.split.unused:
        text = f"{len(unused)} patients of the clinical table are in no fold (not used): {unused[0]}, …"
        examination.add("split", text, "check")
    if unknown := cohort.split.unknown:
        text = f"{len(unknown)} ids of the split belong to no patient of the clinical table: {unknown[0]}, …"
        examination.add("split", text, "check")


def examine_sites(examination: Examination, cohort: Cohort) -> None:
    """Report how many test patients come from sites that training patients come from, too."""
    if "site" not in cohort.clinical.patients or cohort.split is None:
        return
    site, fold = cohort.clinical.patients["site"], cohort.split[cohort.fold]
    shared = site[fold.test].dropna().isin(set(site[fold.train].dropna()))
    text = f"{site.nunique()} sites; {int(shared.sum())} of {len(fold.test)} test patients share one with training patients"
    examination.add("sites", text, "check" if shared.any() else "ok")
