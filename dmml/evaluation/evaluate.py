"""Compute the metrics of predictions with their intervals: the content of `metrics.json`.

Each metric is {value, low, high, interval_level, n, events}: the estimate, its patient-bootstrap interval (drawn within
events or classes; without strata for the Brier score; the hazard ratio has that of its Cox regression) and the level of
the interval, and the numbers of patients and events that it rests on. An undefined metric is null with a `reason`, never
0 or 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NotRequired, TypedDict

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from dmml.cohort.clinical.follow_up import CensoringCurve, horizons_reached
from dmml.evaluation import interval_settings
from dmml.evaluation.bootstrap import Interval, resamples, weighted_interval
from dmml.evaluation.predictions import class_names, curve_at, known_labels, known_outcome, survival_days
from dmml.evaluation.statistics import classification, weighted
from dmml.evaluation.statistics.antolini import antolini
from dmml.evaluation.statistics.censoring import training_censoring
from dmml.evaluation.statistics.hazard_ratio import HazardRatio, hazard_ratio
from dmml.evaluation.statistics.weighted import Weighted

HAZARD_RATIO = "hazard_ratio"
MIN_EVENTS = 2
MIN_CENSORING = 0.1
"""Share still under observation at which Uno's concordance and the Brier score end, so that 1 / G stays below 10."""


class MetricEntry(TypedDict):
    """One metric of `metrics.json`: value and interval, None where undefined, and what they rest on.

    `interval_level` is 0.95 by default, and absent without an interval. `reason` says why the value is undefined, `note`
    is a caveat, and `tau` is the last day that an inverse-probability weighted metric takes into account. `p` is the p
    value of a metric that is a test: of the hazard ratio.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    events: int | None
    interval_level: NotRequired[float]
    reason: NotRequired[str]
    note: NotRequired[str]
    tau: NotRequired[float]
    p: NotRequired[float]


def evaluate(predictions: pd.DataFrame, context: Mapping[str, Any]) -> dict[str, MetricEntry]:
    """All metrics of one model on one cohort.

    Args:
        predictions: `predictions.csv`: `patient_id`, then either `time` (days), `event`, `risk` and `survival_<days>`,
            or `label` and `prob_<class>`, or `value` and `predicted_value`. Patients without a known outcome are left out.
        context: `context.json`; every key may be absent. Used here: `horizons`, `end` (days), `censoring` and
            `median_risk` (of the training patients), `oracle_risk` {patient_id: true risk}, `classes`, `ordered`,
            `endpoint`.

    Returns:
        {metric: {value, low, high, interval_level, n, events}}. If a metric is undefined, `value` is None and `reason`
        says why. `tau` is the last day that an inverse-probability weighted metric takes into account; `note` is a caveat.

    Raises:
        InputError: The predictions have neither a risk, class probabilities nor values, and the context names no endpoint.
    """
    from dmml.evaluation.endpoints.find import endpoint_of

    return endpoint_of(context, predictions.columns).evaluate(predictions, context)


def horizons(context: Mapping[str, Any], time: NDArray) -> list[float]:
    """Days at which to evaluate: those of the context, else of 1, 3 and 5 years those that 10 % of patients reach."""
    days = context.get("horizons")
    return horizons_reached(time) if days is None else [float(day) for day in days]


def survival_metrics(predictions: pd.DataFrame, context: Mapping[str, Any]) -> dict[str, MetricEntry]:
    """Metrics of a risk and of survival; see `evaluate`."""
    patients = known_outcome(predictions)
    time, event, risk = (patients[name].to_numpy(float) for name in ("time", "event", "risk"))
    n, events = len(patients), int((event > 0).sum())
    days = horizons(context, time)
    names = ["c_index", "c_index_antolini", "c_index_ipcw", "ibs", *(f"auc_{day:g}" for day in days), HAZARD_RATIO]
    if events < MIN_EVENTS:
        reason = f"{events} of {n} patients with known outcome had the event; at least {MIN_EVENTS} are needed"
        return {name: undefined(reason, n, events) for name in names}
    weights = resamples(n, event)
    censoring = training_censoring(context, time, event)
    tau = _tau(context, time, censoring)
    results = {"c_index": entry(weighted.harrell(time, event, risk), weights, n, events)}
    if np.ptp(risk) == 0:
        results["c_index"]["note"] = "every patient has the same risk, so the model does not distinguish them"
    results["c_index_antolini"] = _antolini(patients, weights)
    uno = entry(weighted.uno(time, event, risk, censoring, tau), weights, n, events)
    results["c_index_ipcw"] = {**uno, "tau": tau}
    results["ibs"] = _brier(patients, tau, censoring)
    for day in days:
        by_day = int(((event > 0) & (time <= day)).sum())
        metric = weighted.dynamic_auc(time, event, risk, day, censoring)
        reason = _why_no_auc(time, by_day, day)
        results[f"auc_{day:g}"] = entry(metric, weights, n, by_day, reason)
    results[HAZARD_RATIO] = _hazard_ratio(time, event, risk, context.get("median_risk"))
    return results | _oracle(patients, context)


def _antolini(patients: pd.DataFrame, weights: NDArray) -> MetricEntry:
    """Antolini's concordance; `tau` is the last predicted day if events after it had to be left out."""
    n, events = len(patients), int((patients["event"] > 0).sum())
    days = survival_days(patients)
    if not days:
        return undefined("the model predicts no survival curve", n, events)
    metric = entry(antolini(patients), weights, n, events)
    late = ((patients["event"] > 0) & (patients["time"] > days[-1])).any()
    return {**metric, "tau": days[-1]} if late else metric


def _hazard_ratio(time: NDArray, event: NDArray, risk: NDArray, median_risk: float | None) -> MetricEntry:
    """Hazard ratio of the patients above the training patients' median risk; without one, above their own median."""
    result = hazard_ratio(time, event, risk > (np.median(risk) if median_risk is None else median_risk))
    metric = regression_entry(result, len(time), int((event > 0).sum()))
    if median_risk is None:
        metric["note"] = "cut at the median risk of these patients, because that of the training patients is not known"
    return metric


def _why_no_auc(time: NDArray, by_day: int, day: float) -> str:
    """Explain why the AUC at a day is undefined."""
    if not by_day or not (time > day).any():
        return f"no patient is known to have died by day {day:g}, or none is known to be alive after it"
    return (
        f"a patient died by day {day:g} on a day that no training patient was followed to: the weight of that death "
        "would be infinite"
    )


def _tau(context: Mapping[str, Any], time: NDArray, censoring: CensoringCurve) -> float:
    """Last day that Uno's concordance and the Brier score take into account."""
    end = context.get("end")
    return float(min(math.inf if end is None else end, time.max(), censoring.last_day_above(MIN_CENSORING)))


def _brier(patients: pd.DataFrame, tau: float, censoring: CensoringCurve) -> MetricEntry:
    """Brier score, with resamples drawn without strata: it depends on the number of deaths, which strata would fix."""
    time, event = patients["time"].to_numpy(float), patients["event"].to_numpy(float)
    n, events = len(patients), int((event > 0).sum())
    days = survival_days(patients)
    if not days:
        return undefined("the model predicts no survival curve", n, events)
    tau = min(tau, days[-1])
    times = weighted.brier_times(tau)
    metric = weighted.brier(time, event, curve_at(patients, times), times, censoring)
    return {**entry(metric, resamples(n), n, events), "tau": tau}


def _oracle(patients: pd.DataFrame, context: Mapping[str, Any]) -> dict[str, MetricEntry]:
    """Concordance of the true risk, the best possible, and the model's share of its excess over chance."""
    truth = {str(patient): risk for patient, risk in (context.get("oracle_risk") or {}).items()}
    patients = patients[patients["patient_id"].isin(truth)]
    if patients.empty:
        return {}
    time, event, risk = (patients[name].to_numpy(float) for name in ("time", "event", "risk"))
    n, events = len(patients), int((event > 0).sum())
    best = weighted.harrell(time, event, patients["patient_id"].map(truth).to_numpy(float))
    achieved = weighted.harrell(time, event, risk)
    draws = resamples(n, event)
    oracle = entry(best, draws, n, events)
    if oracle["value"] is None or oracle["low"] is None or oracle["low"] <= 0.5:
        reason = "the true risk itself cannot be distinguished from chance on these patients"
        return {"c_index_oracle": oracle, "share_of_oracle": undefined(reason, n, events)}

    def share(weights: NDArray) -> NDArray[np.float64]:
        return weighted.divide(achieved(weights) - 0.5, best(weights) - 0.5)

    return {"c_index_oracle": oracle, "share_of_oracle": entry(share, draws, n, events)}


def class_metrics(predictions: pd.DataFrame, context: Mapping[str, Any]) -> dict[str, MetricEntry]:
    """Metrics of class probabilities; see `evaluate`."""
    classes = class_names(predictions, context)
    label, probability = known_labels(predictions, classes)
    n = len(label)
    ordered = context.get("ordered")
    ordered = classification.looks_ordered(classes) if ordered is None else bool(ordered)
    metrics: dict[str, Callable[[ArrayLike, NDArray], Weighted]] = {
        "auc": classification.macro_auc,
        "accuracy": classification.accuracy,
        "balanced_accuracy": classification.balanced_accuracy,
        **_specificity(len(classes)),
        "f1_macro": classification.macro_f1,
        **({"kappa_quadratic": classification.quadratic_kappa} if ordered else {}),
        "ece": classification.calibration_error,
    }
    if not n:
        return {name: undefined("no patient has a known label", 0, None) for name in metrics}
    weights = resamples(n, label)
    one_class = f"all {n} patients with a known label are of one class"
    results = {name: entry(metric(label, probability), weights, n, None, one_class) for name, metric in metrics.items()}
    if len(np.unique(label)) == 1:  # a single class has a recall, but that is not a mean over classes
        results |= {name: undefined(one_class, n, None) for name in ("balanced_accuracy", "f1_macro")}
    absent = [name for index, name in enumerate(classes) if not (label == index).any()]
    if absent:
        note = f"classes without a patient, left out of the mean: {', '.join(absent)}"
        for name in ("auc", "balanced_accuracy", "specificity_macro"):
            if name in results and results[name]["value"] is not None:
                results[name]["note"] = note
    return results


def _specificity(n_classes: int) -> dict[str, Callable[[ArrayLike, NDArray], Weighted]]:
    """Return the metrics that complete the balanced accuracy, which is the macro sensitivity; none repeats another.

    With two classes, the macro specificity would be the balanced accuracy again. The two recalls of which that is the
    mean are given instead, as sensitivity and specificity for the second class.
    """
    if n_classes > 2:
        return {"specificity_macro": classification.macro_specificity}
    return {
        "sensitivity": classification.second_class_sensitivity,
        "specificity": classification.second_class_specificity,
    }


def entry(
    metric: Weighted, weights: NDArray, n: int, events: int | None, reason: str = "no comparable patients"
) -> MetricEntry:
    """One metric with its interval, in the form of `metrics.json`."""
    result: Interval = weighted_interval(metric, weights)
    if not np.isfinite(result.value):
        return undefined(reason, n, events)
    low, high = (None if np.isnan(end) else float(end) for end in (result.low, result.high))
    return _at_level({"value": float(result.value), "low": low, "high": high, "n": n, "events": events})


def regression_entry(result: HazardRatio, n: int, events: int) -> MetricEntry:
    """Return a hazard ratio in the form of `metrics.json`, with the interval and p value of its regression."""
    if result.reason:
        return undefined(result.reason, n, events)
    metric: MetricEntry = {"value": result.value, "low": result.low, "high": result.high, "n": n, "events": events}
    return _at_level({**metric, "p": result.p})


def _at_level(metric: MetricEntry) -> MetricEntry:
    """Add the level of the interval, if the metric has one."""
    return metric if metric["low"] is None else {**metric, "interval_level": interval_settings.LEVEL}


def undefined(reason: str, n: int, events: int | None) -> MetricEntry:
    """Entry of a metric that cannot be computed, with the reason."""
    return {"value": None, "low": None, "high": None, "n": n, "events": events, "reason": reason}
