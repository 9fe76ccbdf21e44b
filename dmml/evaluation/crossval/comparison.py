"""Compares the models of two cross-validations on the same folds, by paired differences on the patients that both have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmml.errors import InputError
from dmml.evaluation.bootstrap import Difference, Interval, holm, resamples, weighted_difference, weighted_interval
from dmml.evaluation.crossval.results import CrossvalResult
from dmml.evaluation.statistics.weighted import Weighted

FIT = ["repeat", "fold", "seed"]


@dataclass(frozen=True)
class ComparedModels:
    """A model of the first cross-validation and one of the second, on the patients that both tested.

    Attributes:
        a: Name of the model of the first cross-validation.
        b: Name of the model of the second one.
        value_a: Its primary metric, pooled over folds.
        value_b: The same of the second model.
        difference: That of the first minus that of the second.
        p_holm: p of the difference, adjusted for the number of compared models; NaN before the adjustment.
        n: Number of patients.
        events: Number of events among them; None for classes.
        only_a: Number of patients with a known outcome that only the first cross-validation has.
        only_b: Number of those that only the second one has.
    """

    a: str
    b: str
    value_a: Interval
    value_b: Interval
    difference: Difference
    p_holm: float
    n: int
    events: int | None
    only_a: int
    only_b: int

    def plain(self) -> dict[str, Any]:
        """Content for a JSON file; NaN becomes None."""
        return {name: _plain(value) for name, value in asdict(self).items()} | {
            name: {key: _plain(number) for key, number in getattr(self, name)._asdict().items()}
            for name in ("value_a", "value_b", "difference")
        }


def compare_crossvals(
    a: CrossvalResult, b: CrossvalResult, more_pairs: Sequence[tuple[str, str]] = ()
) -> list[ComparedModels]:
    """Compare the models that both cross-validations have, and further pairs; p values are adjusted together.

    Args:
        a: The first cross-validation.
        b: The second one, on the same folds.
        more_pairs: Further pairs: (model of the first, model of the second).

    Raises:
        InputError: They have different metrics, folds, outcomes or classes, no patient or no model in common, or a
            model of `more_pairs` is absent.
    """
    if a.metric != b.metric:
        raise InputError(
            f"{a.folder} is judged by {a.metric} and {b.folder} by {b.metric}; compare one kind of outcome"
        )
    pairs = dict.fromkeys([(name, name) for name in a.models if name in b.models] + list(more_pairs))
    if not pairs:
        raise InputError(
            f"{a.folder} and {b.folder} have no model of the same name ({', '.join(a.models)}; {', '.join(b.models)}); "
            "name two models with --pair FIRST:SECOND"
        )
    for result, names in zip((a, b), zip(*pairs, strict=True), strict=True):
        if absent := [name for name in names if name not in result.models]:
            raise InputError(f"--pair: {result.folder} has no model {absent[0]}; it has {', '.join(result.models)}")
    rows = [_compare(a, b, *pair) for pair in pairs]
    adjusted = holm([row.difference.p for row in rows])
    return [replace(row, p_holm=float(p)) for row, p in zip(rows, adjusted, strict=True)]


def patients_warning(a: CrossvalResult, b: CrossvalResult, rows: Sequence[ComparedModels]) -> str:
    """State in one line that the patients differ; empty if they are the same."""
    row = max(rows, key=lambda each: each.only_a + each.only_b)
    if not row.only_a and not row.only_b:
        return ""
    return (
        f"the patients differ: {row.only_a} are only in {a.folder} and {row.only_b} only in {b.folder}; models are "
        f"compared on the {row.n} that both have"
    )


def _compare(a: CrossvalResult, b: CrossvalResult, model_a: str, model_b: str) -> ComparedModels:
    endpoint = a.endpoint
    tables = [_tested(result, model) for result, model in ((a, model_a), (b, model_b))]
    ids = [set(table["patient_id"]) for table in tables]
    common = sorted(ids[0] & ids[1])
    if not common:
        raise InputError(
            f"{a.folder} and {b.folder} have no patient with a known outcome in common; compare "
            "cross-validations of the same cohort"
        )
    repeats = set(tables[0]["repeat"]) & set(tables[1]["repeat"])
    tables = [t[t["patient_id"].isin(common) & t["repeat"].isin(repeats)] for t in tables]
    _check_folds(a, b, *tables)
    _check_outcomes(a, b, *tables)
    row_of = {patient: index for index, patient in enumerate(common)}
    weights = resamples(len(common), _strata(tables[0], common, list(endpoint.strata)))
    metric_a, metric_b = (
        _pooled(result, model, table, row_of)
        for result, model, table in zip((a, b), (model_a, model_b), tables, strict=True)
    )
    once = tables[0].drop_duplicates("patient_id")
    return ComparedModels(
        model_a,
        model_b,
        weighted_interval(metric_a, weights),
        weighted_interval(metric_b, weights),
        weighted_difference(metric_a, metric_b, weights),
        math.nan,
        len(common),
        int((once["event"] > 0).sum()) if endpoint.counts_events else None,
        len(ids[0] - ids[1]),
        len(ids[1] - ids[0]),
    )


def _tested(result: CrossvalResult, model: str) -> pd.DataFrame:
    """Out-of-fold predictions of a model for the patients with a known outcome, of all repeats and seeds."""
    rows = result.predictions[result.predictions["model"] == model].dropna(axis="columns", how="all")
    rows = rows.assign(**{name: rows[name] if name in rows else 0 for name in FIT})
    return result.endpoint.with_outcome(rows.reset_index(drop=True))


def _check_folds(a: CrossvalResult, b: CrossvalResult, of_a: pd.DataFrame, of_b: pd.DataFrame) -> None:
    """Check that the folds divide the common patients alike, whatever their numbers.

    Pairs of patients count within a fold only, so with other folds, other pairs would be compared.

    Raises:
        InputError: A fold of the first is no fold of the second, or the repeats have none in common.
    """
    folds_a, folds_b = (
        {key: frozenset(rows["patient_id"]) for key, rows in table.groupby(["repeat", "fold"])}
        for table in (of_a, of_b)
    )
    for (repeat, fold), members in folds_a.items():
        if members not in [other for (r, _), other in folds_b.items() if r == repeat]:
            raise InputError(
                f"{a.folder} and {b.folder} have different folds: no fold of {b.folder} has the test patients of fold "
                f"{fold:g} of {a.folder} (repeat {repeat:g}); run both with the same split"
            )
    if not folds_a or len(folds_a) != len(folds_b):
        raise InputError(f"{a.folder} and {b.folder} have different folds; run both with the same split")


def _check_outcomes(a: CrossvalResult, b: CrossvalResult, of_a: pd.DataFrame, of_b: pd.DataFrame) -> None:
    outcome = list(a.endpoint.outcome)
    first, second = (t.drop_duplicates("patient_id").set_index("patient_id").sort_index() for t in (of_a, of_b))
    for name in outcome:
        left, right = first[name], second[name]
        numeric = pd.api.types.is_numeric_dtype(left) and pd.api.types.is_numeric_dtype(right)
        differs = (
            ~np.isclose(left, right, rtol=1e-6, atol=0.01 * (name == "time")) if numeric else (left != right).to_numpy()
        )
        if differs.any():
            raise InputError(
                f"{a.folder} and {b.folder} have different outcomes of patient {first.index[differs][0]} ({name}); "
                "compare cross-validations of one outcome"
            )
    if (names := _classes(of_a)) != (others := _classes(of_b)) and set(names) != set(others):
        raise InputError(
            f"{a.folder} and {b.folder} predict different classes: {', '.join(names)}; {', '.join(others)}"
        )


def _classes(table: pd.DataFrame) -> list[str]:
    return [str(name).removeprefix("prob_") for name in table if str(name).startswith("prob_")]


def _strata(table: pd.DataFrame, ids: Sequence[str], outcome: list[str]) -> NDArray[np.int64]:
    """(N,) strata as in `crossval.json`: outcome and test fold; without the fold if patients are in several."""
    by_patient = table.groupby("patient_id")
    once = (by_patient[["fold", "repeat"]].nunique() == 1).all(axis=None)
    keys = [*outcome, "fold"] if once else outcome
    first = by_patient[["fold", *outcome]].first().loc[list(ids)]
    return first.groupby(keys).ngroup().to_numpy(int) if keys else np.zeros(len(ids), int)


def _pooled(result: CrossvalResult, model: str, table: pd.DataFrame, row_of: dict[str, int]) -> Weighted:
    """The primary metric of a model over its folds, as a function of the weights of the common patients."""
    parts = []
    for (repeat, fold, seed), rows in table.groupby(FIT):
        rows = rows.reset_index(drop=True)
        fit = {"repeat": int(repeat), "fold": int(fold), "seed": int(seed)}
        context = {"classes": _classes(table)} | dict(result.context(fit, model))
        index = rows["patient_id"].map(row_of).to_numpy(int)
        parts.append(result.endpoint.fold_part(index, rows, context, {}))
    return result.endpoint.pooled(result.metric, parts)


def _plain(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
