"""Patient bootstrap: intervals of one model, paired differences of two models on the same patients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dmml.evaluation.weighted import Weighted, estimate

RESAMPLES = 2000
SEED = 0
COVERAGE = 0.95


class Interval(NamedTuple):
    """An estimate and its percentile interval; NaN where undefined."""

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """Metric of a minus metric of b, its percentile interval, and the two-sided bootstrap p of no difference."""

    estimate: float
    low: float
    high: float
    p: float


def resamples(n: int, strata: ArrayLike | None = None, n_resamples: int = RESAMPLES, seed: int = SEED) -> NDArray:
    """How often each patient is drawn, with replacement and within strata.

    Strata (the event, the class) keep every resample as informative as the cohort: none is without events.

    Args:
        n: Patients.
        strata: (n,) labels; None is one stratum.
        n_resamples: R.
        seed: The same seed gives the same draws, whatever the metric.

    Returns:
        (R, n) float32 counts; each row sums to n.
    """
    generator = np.random.default_rng(seed)
    counts = np.zeros((n_resamples, n), np.float32)
    labels = np.zeros(n) if strata is None else np.asarray(strata)
    if len(labels) != n:
        raise ValueError(f"strata has {len(labels)} labels for {n} patients")
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        counts[:, members] = generator.multinomial(len(members), np.full(len(members), 1 / len(members)), n_resamples)
    return counts


def weighted_interval(metric: Weighted, counts: NDArray) -> Interval:
    """Estimate and interval of a metric that takes weights, from ready-made resamples (R, n)."""
    value = estimate(metric, counts.shape[1])
    return Interval(value, *percentiles(metric(counts))) if np.isfinite(value) else Interval(value, np.nan, np.nan)


def interval(
    metric: Callable[..., float],
    *data: ArrayLike,
    strata: ArrayLike | None = None,
    n_resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Interval:
    """Patient-bootstrap interval of `metric(*data)`.

    Args:
        metric: Takes the arrays of `data` cut to a resample; `concordance_index` and `concordance_ipcw` run as a few
            matrix products, any other is called once a resample.
        data: Arrays with one row a patient, in the metric's order, e.g. `time, event, risk`.
        strata: (n,) labels to draw within: the event, or the class.
        n_resamples: Resamples.
        seed: Seed of the draws.

    Returns:
        Estimate and 95 % percentile interval.
    """
    arrays = _same_length(data)
    counts = resamples(len(arrays[0]), strata, n_resamples, seed)
    value, draws = _values(metric, counts, *arrays)
    return Interval(value, *percentiles(draws))


def paired_difference(
    metric: Callable[..., float],
    a: ArrayLike,
    b: ArrayLike,
    *outcome: ArrayLike,
    strata: ArrayLike | None = None,
    n_resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Difference:
    """How much model a differs from model b on the same patients: metric(*outcome, a) − metric(*outcome, b).

    Both models are judged on the same draws, so that what makes a resample hard for both cancels out.

    Args:
        metric: `metric(*outcome, prediction)` → float, e.g. `concordance_index(time, event, risk)`.
        a: (n, …) predictions of the first model.
        b: (n, …) predictions of the second model, the same patients in the same order.
        outcome: Arrays with one row a patient, e.g. `time, event`.
        strata: (n,) labels to draw within: the event, or the class.
        n_resamples: Resamples.
        seed: Seed of the draws.

    Returns:
        Estimate, 95 % percentile interval, two-sided p (see `two_sided_p`).
    """
    *outcome, a, b = _same_length((*outcome, a, b))
    counts = resamples(len(a), strata, n_resamples, seed)
    value_a, draws_a = _values(metric, counts, *outcome, a)
    value_b, draws_b = _values(metric, counts, *outcome, b)
    return _difference(value_a - value_b, draws_a - draws_b)


def weighted_difference(a: Weighted, b: Weighted, counts: NDArray) -> Difference:
    """`paired_difference` of two metrics that take weights, from ready-made resamples (R, n)."""
    n = counts.shape[1]
    return _difference(estimate(a, n) - estimate(b, n), a(counts) - b(counts))


def percentiles(draws: NDArray) -> tuple[float, float]:
    """Ends of the 95 % percentile interval; undefined draws are left out, NaN when fewer than half are defined."""
    draws = draws[np.isfinite(draws)] if np.isfinite(draws).sum() * 2 >= len(draws) else draws[:0]
    if not len(draws):
        return float("nan"), float("nan")
    low, high = np.quantile(draws, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)


def two_sided_p(draws: NDArray) -> float:
    """Twice the smaller share of resampled differences on one side of 0, ties on both, with one added to each count.

    It agrees with the percentile interval: p < 0.05 where the 95 % interval leaves 0 out.
    """
    draws = draws[np.isfinite(draws)]
    if not len(draws):
        return float("nan")
    below, above = ((draws <= 0).sum() + 1) / (len(draws) + 1), ((draws >= 0).sum() + 1) / (len(draws) + 1)
    return float(min(1.0, 2 * min(below, above)))


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down adjustment of several p values; NaN stays NaN and does not count.

    Source: Holm 1979.
    """
    p = np.asarray(p, float)
    adjusted = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    scaled = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return adjusted


def _difference(value: float, draws: NDArray) -> Difference:
    if not np.isfinite(value):
        return Difference(float("nan"), float("nan"), float("nan"), float("nan"))
    return Difference(float(value), *percentiles(draws), two_sided_p(draws))


def _values(metric: Callable[..., float], counts: NDArray, *arrays: NDArray) -> tuple[float, NDArray[np.float64]]:
    fast = _weighted_form(metric, arrays)
    if fast is not None:
        return estimate(fast, counts.shape[1]), fast(counts)
    draws = np.empty(len(counts))
    for index, row in enumerate(counts):
        drawn = np.repeat(np.arange(len(row)), row.astype(int))
        draws[index] = metric(*(array[drawn] for array in arrays))
    return float(metric(*arrays)), draws


def _weighted_form(metric: Callable[..., float], arrays: tuple[NDArray, ...]) -> Weighted | None:
    from dmml.evaluation import metrics, weighted  # here, so that drawing resamples does not import torch
    from dmml.evaluation.censoring import as_censoring

    options: dict = {}
    if isinstance(metric, partial) and not metric.args:
        metric, options = metric.func, dict(metric.keywords)
    if len(arrays) != 3:
        return None
    time, event, risk = arrays
    if metric is metrics.concordance_index and not options:
        return weighted.harrell(time, event, risk)
    # Without a censoring distribution from outside, it belongs to the resample and must be estimated in each.
    if metric is metrics.concordance_ipcw and options.get("censoring") is not None:
        return weighted.uno(time, event, risk, as_censoring(options["censoring"], time, event), options.get("tau"))
    if metric is metrics.auc_at and options.get("censoring") is not None and "day" in options:
        return weighted.dynamic_auc(time, event, risk, options["day"], as_censoring(options["censoring"], time, event))
    return None


def _same_length(data: tuple[ArrayLike, ...]) -> list[NDArray]:
    arrays = [np.asarray(part) for part in data]
    if not arrays or len({len(array) for array in arrays}) != 1:
        raise ValueError(f"one row a patient in every array, got {[len(array) for array in arrays]} rows")
    return arrays
