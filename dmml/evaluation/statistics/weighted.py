"""Survival metrics of weighted patients, each written once for the estimate, its resamples, and pooled folds.

A bootstrap resample is a vector of weights, such as how often each patient was drawn. A metric that takes weights
(R, n) and returns (R,) values therefore evaluates R resamples in a few matrix products instead of R calls. Weights of 1
give the estimate itself.

Concordance and AUC are shares of pairs of patients. The pairs of one model's patients are a `Pairs` object, and
`pair_share` sums over one such object for a cohort, or over one for each fold of a cross-validation: patients whose
risks come from different models are never compared. Times are in days, event 1 = happened, a higher risk is worse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dmml.cohort.clinical.follow_up import CensoringCurve

Weighted = Callable[[NDArray], NDArray[np.float64]]
"""Maps weights (R, n) ≥ 0 to values (R,), NaN where undefined."""

BLOCK_ROWS = 1024
"""Number of rows of the pair matrices that are in memory at a time."""
BRIER_STEPS = 100
"""Number of steps of the trapezoid rule of the integrated Brier score."""


@dataclass(frozen=True)
class Pairs:
    """Pairs (i, j) of patients that one model has predicted.

    Attributes:
        n: Number of these patients.
        block: Maps a slice of the patients i to two matrices (rows, n): how much a pair counts, and how much of that it
            earns, because i has the higher risk (all of it), or the same (half of it).
        index: (n,) position of each patient among all patients that the weights belong to; None for all of them.
    """

    n: int
    block: Callable[[slice], tuple[NDArray, NDArray]]
    index: NDArray[np.int64] | None = None


def estimate(metric: Weighted, n: int) -> float:
    """Value of the metric when every patient has weight 1."""
    return float(metric(np.ones((1, n)))[0])


def undefined_metric(weights: NDArray) -> NDArray[np.float64]:
    """A metric that is undefined whatever the weights."""
    return np.full(len(weights), np.nan)


def pair_share(folds: Sequence[Pairs]) -> Weighted:
    """Σ_folds Σ_ij w_i w_j earned_ij / Σ_folds Σ_ij w_i w_j counted_ij, built block by block to bound the memory.

    Args:
        folds: The pairs of a cohort, or of every fold; without any, the metric is undefined.
    """

    def weighted(weights: NDArray) -> NDArray[np.float64]:
        earned_sum, counted_sum = np.zeros(len(weights)), np.zeros(len(weights))
        for pairs in folds:
            w = weights if pairs.index is None else weights[:, pairs.index]
            for start in range(0, pairs.n, BLOCK_ROWS):
                rows = slice(start, start + BLOCK_ROWS)
                counted, earned = (matrix.astype(w.dtype, copy=False) for matrix in pairs.block(rows))
                earned_sum += np.einsum("rn,rn->r", w[:, rows] @ earned, w, dtype=np.float64)
                counted_sum += np.einsum("rn,rn->r", w[:, rows] @ counted, w, dtype=np.float64)
        return divide(earned_sum, counted_sum)

    return weighted


def pairs_per_patient(pairs: Pairs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n,) sum over all pairs with a patient, as i or as j, of what the pairs count and of what they earn."""
    counted_sum, earned_sum = np.zeros(pairs.n), np.zeros(pairs.n)
    for start in range(0, pairs.n, BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        for total, matrix in zip((counted_sum, earned_sum), pairs.block(rows), strict=True):
            total[rows] += matrix.sum(1, dtype=np.float64)
            total += matrix.sum(0, dtype=np.float64)
    return counted_sum, earned_sum


def at_index(pairs: Pairs | None, index: NDArray[np.int64]) -> list[Pairs]:
    """Place the pairs of a fold among all patients; empty if they are None, i.e. undefined in the fold."""
    return [] if pairs is None else [replace(pairs, index=index)]


def harrell(time: ArrayLike, event: ArrayLike, risk: ArrayLike) -> Weighted:
    """Harrell's concordance."""
    return pair_share([harrell_pairs(time, event, risk)])


def uno(time: ArrayLike, event: ArrayLike, risk: ArrayLike, censoring: CensoringCurve, tau: float | None) -> Weighted:
    """Uno's concordance: a pair is weighted 1 / G(t_i−)² by its earlier time t_i and counts only if t_i < tau."""
    pairs = uno_pairs(time, event, risk, censoring, tau)
    return undefined_metric if pairs is None else pair_share([pairs])


def dynamic_auc(time: ArrayLike, event: ArrayLike, risk: ArrayLike, day: float, censoring: CensoringCurve) -> Weighted:
    """Cumulative/dynamic AUC at `day`: patients dead by then, weighted 1 / G(t_i−), against those alive after it."""
    pairs = dynamic_pairs(time, event, risk, day, censoring)
    return undefined_metric if pairs is None else pair_share([pairs])


def harrell_pairs(time: ArrayLike, event: ArrayLike, risk: ArrayLike) -> Pairs:
    """Pairs of Harrell's concordance: i has the event and j is known to outlive i."""
    time, died, risk = checked_outcome(time, event, risk)

    def block(rows: slice) -> tuple[NDArray, NDArray]:
        counted = outlived(time, died, rows)
        return counted, order(risk[rows, None], risk) * counted

    return Pairs(len(time), block)


def uno_pairs(
    time: ArrayLike, event: ArrayLike, risk: ArrayLike, censoring: CensoringCurve, tau: float | None
) -> Pairs | None:
    """Pairs of Uno's concordance (see `uno`); None if G is 0 at an event that counts."""
    time, died, risk = checked_outcome(time, event, risk)
    early = died & (time < (np.inf if tau is None else tau))
    weight = inverse(censoring.before(time), needed=early) ** 2

    def block(rows: slice) -> tuple[NDArray, NDArray]:
        counted = outlived(time, early, rows) * weight[rows, None]
        return counted, order(risk[rows, None], risk) * counted

    return None if np.isnan(weight).any() else Pairs(len(time), block)


def dynamic_pairs(
    time: ArrayLike, event: ArrayLike, risk: ArrayLike, day: float, censoring: CensoringCurve
) -> Pairs | None:
    """Pairs of the cumulative/dynamic AUC (see `dynamic_auc`); None if G is 0 at an event that counts."""
    time, died, risk = checked_outcome(time, event, risk)
    case = died & (time <= day)
    weight = inverse(censoring.before(time), needed=case)
    return None if np.isnan(weight).any() else separation_pairs(risk, weight, time > day)


def separation_pairs(score: NDArray, case_weight: NDArray, is_control: NDArray[np.bool_]) -> Pairs:
    """Pairs of an AUC: i is a case and j a control.

    Args:
        score: (n,) higher for cases.
        case_weight: (n,) weight of each case; 0 for patients who are no cases.
        is_control: (n,) bool.
    """

    def block(rows: slice) -> tuple[NDArray, NDArray]:
        counted = case_weight[rows, None] * is_control
        return counted, order(score[rows, None], score) * counted

    return Pairs(len(score), block)


def brier(
    time: ArrayLike, event: ArrayLike, survival: ArrayLike, times: ArrayLike, censoring: CensoringCurve
) -> Weighted:
    """Integrated Brier score, (1 / (t_T − t_1)) ∫ BS(t) dt by the trapezoid rule."""
    scores = brier_scores(time, event, survival, times, censoring)
    return undefined_metric if np.isnan(scores).any() else patient_mean([(None, scores)])


def patient_mean(folds: Sequence[tuple[NDArray[np.int64] | None, NDArray]]) -> Weighted:
    """Mean of one value per patient over all folds.

    Args:
        folds: Index of the patients of a fold (see `Pairs`), and (n,) their values.
    """

    def weighted(weights: NDArray) -> NDArray[np.float64]:
        total, size = np.zeros(len(weights)), np.zeros(len(weights))
        for index, values in folds:
            w = weights if index is None else weights[:, index]
            total += w @ values
            size += w.sum(1, dtype=np.float64)
        return divide(total, size)

    return weighted


def brier_scores(
    time: ArrayLike, event: ArrayLike, survival: ArrayLike, times: ArrayLike, censoring: CensoringCurve
) -> NDArray[np.float64]:
    """(n,) each patient's contribution to the integrated Brier score, which is their mean.

    At time t, the squared error of a patient who died by t is S(t)² / G(t_i−), that of one alive after t is
    (1 − S(t))² / G(t), and that of one censored by t is 0.

    Args:
        time: (n,) days.
        event: (n,) 1 = happened.
        survival: (n, T) predicted survival at `times`.
        times: (T,) increasing days.
        censoring: Censoring distribution.
    """
    time, died, survival = checked_outcome(time, event, survival)
    times = np.asarray(times, float)
    case, control = died[:, None] & (time[:, None] <= times), time[:, None] > times
    dead = inverse(censoring.before(time), needed=case.any(1))[:, None]
    alive = inverse(censoring.at(times), needed=control.any(0))[None]
    errors = np.where(case, survival**2 * dead, 0.0) + np.where(control, (1 - survival) ** 2 * alive, 0.0)
    if len(times) == 1:
        return errors[:, 0]
    return np.trapezoid(errors, times, axis=1) / (times[-1] - times[0])


def brier_times(tau: float) -> NDArray[np.float64]:
    """(T,) days of the integrated Brier score, from 0 to just before tau.

    At tau itself, the censoring distribution may already have dropped below its minimum.
    """
    return np.linspace(0, tau, BRIER_STEPS + 1) * (1 - 1e-9)


def divide(top: ArrayLike, bottom: ArrayLike) -> NDArray[np.float64]:
    """Elementwise quotient in float64, NaN where the divisor is 0."""
    top, bottom = np.asarray(top, np.float64), np.asarray(bottom, np.float64)
    return np.divide(top, bottom, out=np.full(np.broadcast(top, bottom).shape, np.nan), where=bottom != 0)


def checked_outcome(
    time: ArrayLike, event: ArrayLike, prediction: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Days, whether the event happened, and the prediction of each patient, as arrays of equal length.

    Raises:
        ValueError: The lengths differ, or an outcome is missing.
    """
    times, events, predictions = (np.asarray(values, np.float64) for values in (time, event, prediction))
    if not len(times) == len(events) == len(predictions):
        raise ValueError(
            f"got {len(times)} times, {len(events)} events and {len(predictions)} predictions; give one of each per patient"
        )
    for name, values in (("time", times), ("event", events)):
        if np.isnan(values).any():
            raise ValueError(f"{name} is missing for {np.isnan(values).sum()} patients; leave them out first")
    return times, np.asarray(events > 0), predictions


def outlived(time: NDArray, died: NDArray, rows: slice) -> NDArray[np.bool_]:
    """(rows, n) whether i has the event and j is known to have outlived i (later, or censored on the same day)."""
    first = time[rows, None]
    # Events may be cut off at tau. On a shared day, i and j are then cut off together, so the tie rule still holds.
    return died[rows, None] & ((first < time) | ((first == time) & ~died))


def order(of_row: NDArray, score: NDArray) -> NDArray[np.float32]:
    """(rows, n): 1 if i, whose score is in `of_row` (rows, 1), has the higher one, ½ if the two are tied, else 0."""
    return (of_row > score).astype(np.float32) + np.float32(0.5) * (of_row == score)


def inverse(probability: NDArray, needed: ArrayLike) -> NDArray[np.float64]:
    """1 / probability: 0 where it is not needed, NaN where it is needed but the probability is 0."""
    return np.where(needed, divide(np.ones_like(probability), probability), 0.0)
