"""Patient bootstrap: intervals of one model, and paired differences of two models on the same patients.

The level of the intervals and the number of resamples are set in `dmml.evaluation.interval_settings`.

Drawing n of n patients within strata makes intervals too narrow if a stratum, such as the events, is small. Here, m − 1
of the m patients of a stratum are drawn, with weight m / (m − 1) (Rao & Wu 1988). The limits of the intervals are
bias-corrected and accelerated (Efron 1987): with plain percentiles on 90 patients, the interval contained an AUC of
0.86 in 92.9 % of cohorts and one of 0.97 in 89 %. `benchmarks/bootstrap_coverage.py` measures the coverage of both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dmml.evaluation import interval_settings
from dmml.evaluation.statistics.bca import Correction, bca_correction, jackknife_weights, percentiles, two_sided_p
from dmml.evaluation.statistics.weighted import Weighted, estimate

SEED = 0
WeightedCurve = Callable[[NDArray], NDArray[np.float64]]
"""Maps weights (R, n) ≥ 0 to the values (R, K) of a curve at K positions, NaN where undefined."""


class Interval(NamedTuple):
    """An estimate and the limits of its interval; NaN where undefined."""

    value: float
    low: float
    high: float


class Band(NamedTuple):
    """A curve on a grid of K positions and the limits of its pointwise intervals, (K,) each; NaN where undefined."""

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


class Difference(NamedTuple):
    """Metric of model a minus that of model b, its interval, and the two-sided bootstrap p value of no difference."""

    estimate: float
    low: float
    high: float
    p: float


def resamples(
    n: int, strata: ArrayLike | None = None, n_resamples: int | None = None, seed: int = SEED, whole: bool = False
) -> NDArray:
    """Draw bootstrap resamples, with replacement and within strata, as the weight of each patient in each resample.

    Strata (the event or the class) keep every resample as informative as the cohort: none is without events.

    Args:
        n: Number of patients.
        strata: (n,) labels; None puts all patients into one stratum.
        n_resamples: Number of resamples R; None takes `interval_settings.RESAMPLES`.
        seed: The same seed gives the same draws, whatever the metric.
        whole: Draw m of the m patients of a stratum, so that weights are whole numbers. Otherwise m − 1 are drawn, each
            with the weight m / (m − 1), which gives the right variance in small strata.

    Returns:
        (R, n) float32 weights; each row sums to n.

    Raises:
        ValueError: There is not one label per patient.
    """
    generator = np.random.default_rng(seed)
    n_resamples = interval_settings.RESAMPLES if n_resamples is None else n_resamples
    weights = np.zeros((n_resamples, n), np.float32)
    labels = np.zeros(n) if strata is None else np.asarray(strata)
    if len(labels) != n:
        raise ValueError(f"strata has {len(labels)} labels for {n} patients")
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        m = len(members)
        drawn = m if whole else max(1, m - 1)
        weights[:, members] = generator.multinomial(drawn, np.full(m, 1 / m), n_resamples) * (m / drawn)
    return weights


def weighted_interval(metric: Weighted, weights: NDArray) -> Interval:
    """Estimate and interval of a metric that takes weights, given the resamples (R, n)."""
    n = weights.shape[1]
    value = estimate(metric, n)
    if not np.isfinite(value):
        return Interval(value, np.nan, np.nan)
    draws = metric(weights)
    return Interval(value, *_limits(value, draws, bca_correction(value, draws, metric(jackknife_weights(n)))))


def weighted_band(curve: WeightedCurve, weights: NDArray) -> Band:
    """A curve with an interval at each position, given the resamples (R, n); the intervals do not hold jointly."""
    n = weights.shape[1]
    values, draws, jackknife = curve(np.ones((1, n)))[0], curve(weights), curve(jackknife_weights(n))
    limits = np.full((2, len(values)), np.nan)
    for k in np.flatnonzero(np.isfinite(values)):
        correction = bca_correction(values[k], draws[:, k], jackknife[:, k])
        limits[:, k] = _limits(values[k], draws[:, k], correction)
    return Band(values, *limits)


def interval(
    metric: Callable[..., float],
    *data: ArrayLike,
    strata: ArrayLike | None = None,
    n_resamples: int | None = None,
    seed: int = SEED,
) -> Interval:
    """Patient-bootstrap interval of `metric(*data)`.

    Args:
        metric: Called with the arrays of `data`, reduced to a resample. `concordance_index`, and `concordance_ipcw` and
            `auc_at` with a given `censoring`, run as a few matrix products; any other metric is called once per
            resample.
        data: Arrays with one row per patient, in the order of the metric's arguments, e.g. `time, event, risk`.
        strata: (n,) labels to draw within: the event or the class.
        n_resamples: Number of resamples; None takes `interval_settings.RESAMPLES`.
        seed: Seed of the draws.

    Returns:
        Estimate and interval.
    """
    arrays = _same_length(data)
    weighted = _weighted(metric, *arrays)
    return weighted_interval(weighted, _draw(weighted, len(arrays[0]), strata, n_resamples, seed))


def paired_difference(
    metric: Callable[..., float],
    a: ArrayLike,
    b: ArrayLike,
    *outcome: ArrayLike,
    strata: ArrayLike | None = None,
    n_resamples: int | None = None,
    seed: int = SEED,
) -> Difference:
    """How much model a differs from model b on the same patients: metric(*outcome, a) − metric(*outcome, b).

    Both models are evaluated on the same draws, so that whatever makes a resample hard for both cancels out.

    Args:
        metric: `metric(*outcome, prediction)` → float, e.g. `concordance_index(time, event, risk)`.
        a: (n, …) predictions of the first model.
        b: (n, …) predictions of the second model for the same patients in the same order.
        outcome: Arrays with one row per patient, e.g. `time, event`.
        strata: (n,) labels to draw within: the event or the class.
        n_resamples: Number of resamples; None takes `interval_settings.RESAMPLES`.
        seed: Seed of the draws.

    Returns:
        Estimate, interval and two-sided p (see `two_sided_p`).
    """
    *outcomes, of_a, of_b = _same_length((*outcome, a, b))
    metric_a, metric_b = (_weighted(metric, *outcomes, prediction) for prediction in (of_a, of_b))
    return weighted_difference(metric_a, metric_b, _draw(metric_a, len(of_a), strata, n_resamples, seed))


def weighted_difference(a: Weighted, b: Weighted, weights: NDArray) -> Difference:
    """`paired_difference` of two metrics that take weights, given the resamples (R, n)."""
    n = weights.shape[1]
    value = estimate(a, n) - estimate(b, n)
    if not np.isfinite(value):
        return Difference(float("nan"), float("nan"), float("nan"), float("nan"))
    draws, jackknife = a(weights) - b(weights), jackknife_weights(n)
    correction = bca_correction(value, draws, a(jackknife) - b(jackknife))
    return Difference(value, *_limits(value, draws, correction), two_sided_p(draws, correction))


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down adjustment of several p values; NaN stays NaN and does not count.

    Source: Holm 1979.
    """
    p = np.asarray(p, float)
    adjusted = np.full(p.shape, np.nan)
    defined = np.flatnonzero(~np.isnan(p))
    order = defined[np.argsort(p[defined], kind="stable")]
    scaled = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return adjusted


def _limits(value: float, draws: NDArray, correction: Correction) -> tuple[float, float]:
    """Limits of the interval, widened to include the estimate: with few, tied draws it can lie outside them."""
    low, high = percentiles(draws, correction)
    return (min(low, value), max(high, value)) if np.isfinite(low) else (low, high)


def _draw(metric: Weighted, n: int, strata: ArrayLike | None, n_resamples: int | None, seed: int) -> NDArray:
    return resamples(n, strata, n_resamples, seed, whole=isinstance(metric, _RepeatedPatients))


@dataclass(frozen=True)
class _RepeatedPatients:
    """Adapt any metric of arrays to weights: each patient is repeated as often as its whole-number weight says."""

    metric: Callable[..., float]
    arrays: tuple[NDArray, ...]

    def __call__(self, weights: NDArray) -> NDArray[np.float64]:
        values = np.empty(len(weights))
        for index, row in enumerate(weights):
            drawn = np.repeat(np.arange(len(row)), row.astype(int))
            values[index] = self.metric(*(array[drawn] for array in self.arrays))
        return values


def _weighted(metric: Callable[..., float], *arrays: NDArray) -> Weighted:
    """Return the metric as a few matrix products if it has that form, otherwise as one call per resample."""
    return _weighted_form(metric, arrays) or _RepeatedPatients(metric, arrays)


def _weighted_form(metric: Callable[..., float], arrays: tuple[NDArray, ...]) -> Weighted | None:
    from dmml.evaluation import metrics
    from dmml.evaluation.statistics import weighted  # imported here, so that drawing resamples does not import torch
    from dmml.evaluation.statistics.censoring import as_censoring

    options: dict[str, Any] = {}
    if isinstance(metric, partial) and not metric.args:
        options, metric = dict(metric.keywords), metric.func
    if len(arrays) != 3:
        return None
    time, event, risk = arrays
    if metric is metrics.concordance_index and not options:
        return weighted.harrell(time, event, risk)
    # Without a given censoring distribution, it is part of the data and must be estimated anew in each resample.
    if metric is metrics.concordance_ipcw and options.get("censoring") is not None:
        return weighted.uno(time, event, risk, as_censoring(options["censoring"], time, event), options.get("tau"))
    if metric is metrics.auc_at and options.get("censoring") is not None and "day" in options:
        return weighted.dynamic_auc(time, event, risk, options["day"], as_censoring(options["censoring"], time, event))
    return None


def _same_length(data: tuple[ArrayLike, ...]) -> list[NDArray]:
    arrays = [np.asarray(values) for values in data]
    if not arrays or len({len(array) for array in arrays}) != 1:
        raise ValueError(f"every array needs one row per patient; got {[len(array) for array in arrays]} rows")
    return arrays
