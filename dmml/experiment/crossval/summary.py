"""Summarises the finished folds as `crossval.json` and `oof_predictions.csv`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmml.atomic_files import atomic_write, write_json
from dmml.errors import InputError
from dmml.evaluation import interval_settings
from dmml.evaluation.bootstrap import holm, resamples, weighted_difference, weighted_interval
from dmml.evaluation.crossval.outlying_folds import outlying_folds
from dmml.evaluation.evaluation_result import Evaluation, read_evaluation
from dmml.evaluation.result_folders import ResultFolder
from dmml.evaluation.statistics.pooled import FoldPredictions, corrected_resampled_p
from dmml.evaluation.statistics.weighted import Weighted
from dmml.experiment.crossval.models import JOINED, needs_of, pairs
from dmml.experiment.crossval.out_of_fold import out_of_fold
from dmml.experiment.crossval.plan import CrossvalPlan, FoldRun


@dataclass(frozen=True)
class FoldResult:
    """One fold's model on its outer test patients.

    Attributes:
        run: The fold, with its repeat and seed.
        evaluation: Predictions of its outer test patients, what was fitted on its training patients, and the metrics.
        patients: {part: number of patients} of `train`, `val` and `test`.
    """

    run: FoldRun
    evaluation: Evaluation
    patients: dict[str, int]

    def value(self, metric: str) -> float | None:
        """Value of a metric; None where it is undefined."""
        entry = self.evaluation.metrics.get(metric)
        return None if entry is None else entry["value"]

    def reason(self, metric: str) -> str:
        """Why a metric is undefined."""
        entry = self.evaluation.metrics.get(metric)
        if entry is None:
            return "too few training patients of this fold are at risk that late"
        return entry.get("reason", "undefined")

    def part(self, row_of: Mapping[str, int]) -> FoldPredictions:
        """Return the fold as pooled metrics need it.

        Args:
            row_of: {patient: index among all patients}.
        """
        test = self.evaluation
        index = test.with_outcome["patient_id"].map(row_of).to_numpy(int)
        return test.endpoint.fold_part(index, test.predictions, test.context, test.metrics)


def summarise(plan: CrossvalPlan) -> dict[str, Any]:
    """Evaluate every model that is finished in all folds, and write both files.

    Returns:
        The content of `crossval.json`.

    Raises:
        InputError: No model is finished in all folds.
    """
    missing = plan.missing()
    models = [name for name in plan.models if name not in missing]
    if not models:
        first = next(iter(missing.values()), ["every fold"])
        raise InputError(f"{plan.out}: no model is finished in all folds (missing: {', '.join(first[:3])}); run them")
    results = {name: [_read(plan, run, name) for run in plan.fold_runs()] for name in models}
    summary = _evaluate(plan, results)
    if missing:
        summary["missing"] = missing
    with atomic_write(plan.out / "oof_predictions.csv") as partial:
        out_of_fold(results).to_csv(partial, index=False)
    write_json(plan.out / "crossval.json", summary)
    return summary


def _read(plan: CrossvalPlan, run: FoldRun, name: str) -> FoldResult:
    folder = plan.model_folder(run, name)
    done = json.loads((folder / "done.json").read_text(encoding="utf-8"))
    return FoldResult(run, read_evaluation(ResultFolder(folder, folder)), done["patients"])


def _evaluate(plan: CrossvalPlan, results: Mapping[str, Sequence[FoldResult]]) -> dict[str, Any]:
    first = next(iter(results.values()))
    endpoint, context = first[0].evaluation.endpoint, first[0].evaluation.context
    patients = pd.concat(
        [result.evaluation.with_outcome.assign(fold=result.run.fold, repeat=result.run.repeat) for result in first]
    )
    ids = sorted(set(patients["patient_id"]))
    row_of = {patient: i for i, patient in enumerate(ids)}
    counts = resamples(len(ids), _strata(patients, ids, list(endpoint.strata)))
    freely = resamples(len(ids), _strata(patients, ids, [])) if endpoint.drawn_freely else counts
    parts = {name: [result.part(row_of) for result in folds] for name, folds in results.items()}
    content: dict[str, Any] = {
        "cohort": context["cohort"],
        **{key: context[key] for key in ("task", "endpoint") if key in context},
        "level": interval_settings.LEVEL,
        "resamples": interval_settings.RESAMPLES,
        "primary_metric": endpoint.primary,
        "patients": len(ids),
        "events": int(patients.drop_duplicates("patient_id")["event"].sum()) if endpoint.counts_events else None,
        "units": [run._asdict() for run in plan.fold_runs()],
        "models": {},
    }
    for name, folds in results.items():
        metrics = dict.fromkeys(metric for result in folds for metric in result.evaluation.metrics)
        content["models"][name] = {
            metric: _entry(metric, folds, parts[name], freely if metric in endpoint.drawn_freely else counts)
            for metric in metrics
            if metric not in endpoint.stratified_by_fold
        }
    for metric in sorted(endpoint.stratified_by_fold):
        content[metric] = {name: _stratified(metric, folds) for name, folds in results.items()}
    if plan.baselines:
        needs = needs_of(plan.baselines)
        content["baselines"] = {
            name: {"network": network, "reads": sorted(needs[name])} for name, network in plan.baselines.items()
        }
    content["outlying_folds"] = _outlying(content["primary_metric"], results)
    content["paired"] = _paired(content["primary_metric"], results, parts, counts)
    if "clinical" in results and (added := _added(results)) is not None:
        content["added_to_clinical"] = added
    return content


def _outlying(metric: str, results: Mapping[str, Sequence[FoldResult]]) -> list[dict[str, Any]]:
    """List outlying folds of the models; joined models are left out, since their outlying folds follow from those of their parts."""
    return [
        {"model": name, **fold}
        for name, folds in results.items()
        if not name.endswith(JOINED)
        for fold in outlying_folds(
            [result.run._asdict() for result in folds], [result.evaluation.metrics[metric] for result in folds]
        )
    ]


def _added(results: Mapping[str, Sequence[FoldResult]]) -> dict[str, dict[str, Any]] | None:
    """Return {model: test of what it adds to the clinical model}; None if the endpoint has no such test.

    Only the first repeat and seed count, because a patient must count once.
    """
    first = results["clinical"][0].evaluation
    endpoint, context = first.endpoint, first.context
    names = [name for name in results if name != "clinical" and not name.endswith(JOINED)]
    clinical = [table for table, _ in _each_once(results["clinical"])]
    tests: dict[str, dict[str, Any]] = {}
    for name in names:
        test = endpoint.added_value(clinical, [table for table, _ in _each_once(results[name])], context)
        if test is None:
            return None
        tests[name] = dict(test)
    adjusted = holm([test["p"] for test in tests.values()])
    return {name: test | {"p_holm": _number(p)} for (name, test), p in zip(tests.items(), adjusted, strict=True)}


def _each_once(folds: Sequence[FoldResult]) -> list[tuple[pd.DataFrame, dict[str, Any]]]:
    """List the rows with a known outcome of the first repeat and seed, fold by fold, with the context of the fold.

    A patient whom several folds tested counts in the first one.
    """
    seen: set[str] = set()
    parts = []
    for result in folds:
        if result.run.repeat == result.run.seed == 0:
            rows = result.evaluation.with_outcome
            parts.append((rows[~rows["patient_id"].isin(seen)], result.evaluation.context))
            seen |= set(rows["patient_id"])
    return [(rows, context) for rows, context in parts if len(rows)]


def _stratified(metric: str, folds: Sequence[FoldResult]) -> dict[str, Any]:
    """Return a metric that is computed with a stratum per fold, with its values in the folds."""
    over_folds = folds[0].evaluation.endpoint.over_folds(metric, _each_once(folds))
    return {**over_folds, "folds": [result.value(metric) for result in folds]}


def _strata(patients: pd.DataFrame, ids: list[str], outcome: list[str]) -> NDArray[np.int64]:
    """Return (N,) strata: outcome (a column, or none) and test fold; without the fold if patients are in several."""
    by_patient = patients.groupby("patient_id")
    table = by_patient[["fold", *outcome]].first().loc[ids]
    once = (by_patient[["fold", "repeat"]].nunique() == 1).all(axis=None)
    if keys := [*outcome, "fold"] if once else outcome:
        return table.groupby(keys).ngroup().to_numpy(int)
    return np.zeros(len(ids), int)


def _entry(
    metric: str, folds: Sequence[FoldResult], parts: Sequence[FoldPredictions], counts: NDArray
) -> dict[str, Any]:
    """Summarise one metric of one model: values by fold, their mean and spread, and the pooled value with its interval.

    Seeds of one fold share its patients, and a model without randomness is the same for each seed, so they are averaged
    first.
    """
    values = [result.value(metric) for result in folds]
    by_fold: dict[tuple[int, int], list[float]] = {}
    for result, value in zip(folds, values, strict=True):
        if value is not None:
            by_fold.setdefault((result.run.repeat, result.run.fold), []).append(value)
    defined = [float(np.mean(of_seeds)) for of_seeds in by_fold.values()]
    pooled = weighted_interval(folds[0].evaluation.endpoint.pooled(metric, parts), counts)
    content: dict[str, Any] = {
        "folds": values,
        "mean": _number(np.mean(defined)) if defined else None,
        "sd": _number(np.std(defined, ddof=1)) if len(defined) > 1 else None,
        "pooled": {name: _number(value) for name, value in pooled._asdict().items()},
    }
    undefined = {str(result.run): result.reason(metric) for result in folds if result.value(metric) is None}
    return content | ({"undefined": undefined} if undefined else {})


def _paired(
    metric: str,
    results: Mapping[str, Sequence[FoldResult]],
    parts: Mapping[str, Sequence[FoldPredictions]],
    counts: NDArray,
) -> list[dict[str, Any]]:
    """Compare pooled metrics on the same resamples of patients; the primary comparison is not in Holm's family."""
    primary, others = pairs(list(results))
    pooled: dict[str, Weighted] = {
        name: results[name][0].evaluation.endpoint.pooled(metric, folds) for name, folds in parts.items()
    }
    rows = []
    for a, b in ([primary] if primary else []) + others:
        difference = weighted_difference(pooled[a], pooled[b], counts)
        rows.append(
            {
                "a": a,
                "b": b,
                "metric": metric,
                "difference": _number(difference.estimate),
                "low": _number(difference.low),
                "high": _number(difference.high),
                "p": _number(difference.p),
                "p_resampled": _number(_resampled(metric, results[a], results[b])),
                "primary": (a, b) == primary,
            }
        )
    rest = [row for row in rows if not row["primary"]]
    for row, p in zip(rest, holm([math.nan if row["p"] is None else row["p"] for row in rest]), strict=True):
        row["p_holm"] = _number(p)
    over_folds = holm([math.nan if row["p_resampled"] is None else row["p_resampled"] for row in rest])
    for row, p in zip(rest, over_folds, strict=True):
        row["p_resampled_holm"] = _number(p)
    return rows


def _resampled(metric: str, a: Sequence[FoldResult], b: Sequence[FoldResult]) -> float:
    """Corrected resampled t-test over folds and repeats; seeds of one fold are averaged first."""
    differences: dict[tuple[int, int], list[float]] = {}
    for result_a, result_b in zip(a, b, strict=True):
        value_a, value_b = result_a.value(metric), result_b.value(metric)
        if value_a is not None and value_b is not None:
            differences.setdefault((result_a.run.repeat, result_a.run.fold), []).append(value_a - value_b)
    share = [result.patients["test"] / (result.patients["train"] + result.patients["val"]) for result in a]
    return corrected_resampled_p([np.mean(values) for values in differences.values()], float(np.mean(share)))


def _number(value: float | np.floating) -> float | None:
    return float(value) if np.isfinite(value) else None
