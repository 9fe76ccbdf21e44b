"""Alternatives compared for the linear baselines: codings of covariates, and ways to choose a penalty."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from real_rna_cohorts import MCAT, PORPOISE

from dmml.cohort.clinical.table import Clinical, read_clinical
from dmml.cohort.rna.expression import read_expression
from dmml.cohort.rna.standardise import fit_statistics, standardise
from dmml.cohort.splits.make_folds import make_folds
from dmml.cohort.splits.read_splits import read_split
from dmml.experiment.crossval.covariates import CovariateCode, OrderedCode
from dmml.experiment.crossval.penalty_choice import InnerFold, fit_regression
from dmml.functional.survival import concordance_index
from dmml.linear.ridge import PENALTIES, choose, cox_log_likelihood
from dmml.tasks import Survival
from dmml.tasks.ridge.ridge_regression import RegressionModel

CODINGS = ("no order", "position", "steps", "position and steps")
"""Codings of stage or grade: a column per level; the level's number; a step at each level but the first; or the last two"""
CHOICES = ("first fold alone", "within folds", "gain of training and held out", "all folds together")
"""Ways to score a penalty: the held-out likelihood of one inner fold; its sum over five; log-likelihood of training and
held-out patients less that of training patients; and of all held-out patients at once"""
DEALT = 3
Design = Callable[[list[str], list[str]], tuple[NDArray, NDArray]]
"""Maps patients to fit to and patients to predict to their rows, coded by the former"""


def choices(data: Path, tables: dict[str, Path], sites: Path) -> dict[str, Any]:
    """{"coding": {cohort: {coding: concordance}}, "missing": …, "penalty of covariates": …, "penalty of RNA": …}.

    Args:
        data: Folder of the cohorts.
        tables: {"luad": clinical table, "gbmlgg": the same}.
        sites: Folds of LUAD that keep sites whole.
    """
    record: dict[str, Any] = {"coding": {}, "missing": {}, "penalty of covariates": {}, "penalty of RNA": {}}
    for name, clinical, folds, table in _cohorts(data, tables, sites):
        best = CODINGS[-1]
        coded = {coding: _judge(clinical, folds, _covariates(clinical, coding, True)) for coding in CODINGS}
        record["coding"][name] = {coding: judged[CHOICES[-1]] for coding, judged in coded.items()}
        median = _judge(clinical, folds, _covariates(clinical, best, False))[CHOICES[-1]]
        record["missing"][name] = {"median": median, "median and a column": coded[best][CHOICES[-1]]}
        record["penalty of covariates"][name] = coded[best]
        if "dealt" not in name:  # minutes for each
            record["penalty of RNA"][name] = _judge(clinical, folds, _genes(table))
    return record


def _cohorts(
    data: Path, tables: dict[str, Path], sites: Path
) -> Iterator[tuple[str, Clinical, list[tuple[list[str], list[str]]], pd.DataFrame]]:
    days = {"time": "os_days", "event": "os_event", "unit": "days"}
    months = {"time": "survival_months", "censored": "censorship", "unit": "months"}
    for name, source, outcome, covariates in (
        ("luad", MCAT, days, ["age", "sex", "stage"]),
        ("gbmlgg", PORPOISE, months, ["age", "is_female", "grade"]),
    ):
        clinical = read_clinical(tables[name], outcome=outcome, covariates=covariates)
        section = {"path": str(data / source), "patient_id": "case_id", "suffix": "_rnaseq", "scale": "zscore"}
        genes = read_expression(section).table
        published = read_split(data / f"tcga_{name}" / "splits_5fold", clinical)
        yield f"{name.upper()}, published folds", clinical, [published.fold(k) for k in published.folds], genes
        if name == "luad":
            whole = read_split(sites, clinical)
            yield "LUAD, whole sites", clinical, [whole.fold(k) for k in whole.folds], genes
        dealt = [make_folds(clinical, seed=seed) for seed in range(1, 1 + DEALT)]
        parts = [(list(one.index[one != k]), list(one.index[one == k])) for one in dealt for k in range(5)]
        yield f"{name.upper()}, folds dealt {DEALT} times", clinical, parts, genes


def _judge(
    clinical: Clinical, folds: Sequence[tuple[list[str], list[str]]], design_of: Callable[[list[str]], Design]
) -> dict[str, float]:
    """{way to choose the penalty: mean concordance of the test patients}."""
    task, values = Survival(), {choice: [] for choice in CHOICES}
    for parts in folds:
        train, test = ([p for p in patients if clinical.observed[p]] for patients in parts)
        design = design_of(train)
        x, x_test = design(train, test)
        for choice, penalty in _penalties(task, clinical, design, train).items():
            risk = fit_regression(task.regression(), x, _outcome(clinical, train), penalty).score(x_test)[:, 0]
            values[choice].append(concordance_index(*_outcome(clinical, test).values(), risk))
    return {choice: float(np.mean(concordances)) for choice, concordances in values.items()}


def _penalties(task: Survival, clinical: Clinical, design: Design, train: list[str]) -> dict[str, float]:
    part = make_folds(clinical, patients=train)
    folds, paths = [], []
    for k in range(5):
        rest, out = list(part.index[part != k]), list(part.index[part == k])
        x, x_out = design(rest, out)
        folds.append(InnerFold(x, _outcome(clinical, rest), x_out, _outcome(clinical, out)))
        paths.append(list(task.regression().path(x, folds[-1].outcome, PENALTIES)))
    scores = [_scores(folds, models) for models in zip(*paths, strict=True)]
    return {choice: PENALTIES[choose([one[choice] for one in scores])] for choice in CHOICES}


def _scores(folds: Sequence[InnerFold], models: Sequence[RegressionModel]) -> dict[str, float]:
    risks = [model.score(fold.x_held_out)[:, 0] for model, fold in zip(models, folds, strict=True)]
    outcomes = [tuple(fold.outcome_held_out.values()) for fold in folds]
    within = [cox_log_likelihood(risk, *outcome) for risk, outcome in zip(risks, outcomes, strict=True)]
    gains = []
    for fold, model, risk, outcome in zip(folds, models, risks, outcomes, strict=True):
        training = model.score(fold.x)[:, 0], *fold.outcome.values()
        both = [np.concatenate(pair) for pair in zip(training, (risk, *outcome), strict=True)]
        gains.append(cox_log_likelihood(*both) - cox_log_likelihood(*training))
    together = cox_log_likelihood(np.concatenate(risks), *(np.concatenate(one) for one in zip(*outcomes, strict=True)))
    return dict(zip(CHOICES, (within[0], sum(within), sum(gains), together), strict=True))


def _outcome(clinical: Clinical, patients: list[str]) -> dict[str, NDArray]:
    table = clinical.patients.loc[patients]
    return {name: table[name].to_numpy(float) for name in ("time", "event")}


def _covariates(clinical: Clinical, coding: str, unknown: bool) -> Callable[[list[str]], Design]:
    """A coding of covariates, with or without columns for unknown values."""
    table = clinical.covariates
    levels = {name: () for name in table if not pd.api.types.is_numeric_dtype(table[name])}

    def columns(code: CovariateCode, patients: list[str]) -> NDArray:
        all_columns = []
        for name, one in code.codes.items():
            values = table.loc[patients, name]
            encoded = one.encode_column(values)
            number = one.position if isinstance(one, OrderedCode) else one
            head = 2 if getattr(number, "marks_unknown", False) else 1
            if isinstance(one, OrderedCode):
                position, steps = encoded[:1], encoded[head:]
                kept = {"position": position, "steps": steps or position}.get(coding, position + steps)
                encoded = kept + (encoded[1:head] if unknown else [])
            elif name not in levels and not unknown:
                encoded = encoded[:1]
            all_columns += encoded
        return np.column_stack(all_columns)

    def of(train: list[str]) -> Design:
        code = CovariateCode.fit(table.loc[train], levels if coding == CODINGS[0] else None)

        def design(patients: list[str], others: list[str]) -> tuple[NDArray, NDArray]:
            refitted_code = code.refit(table.loc[patients])
            x, x_others = columns(refitted_code, patients), columns(refitted_code, others)
            return x - x.mean(0), x_others - x.mean(0)

        return design

    return of


def _genes(table: pd.DataFrame) -> Callable[[list[str]], Design]:
    def design(patients: list[str], others: list[str]) -> tuple[NDArray, NDArray]:
        statistics = fit_statistics(table.reindex(patients).dropna(how="all"), list(table.columns), "zscore")
        return tuple(
            standardise(table.reindex(each), statistics, "zscore").astype(float) for each in (patients, others)
        )

    return lambda train: design
