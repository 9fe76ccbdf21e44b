"""Survival metrics of weighted patients, each written once for both the estimate and all its resamples.

A bootstrap resample is a vector of weights, such as how often each patient was drawn. A metric that takes weights
(R, n) and returns (R,) values therefore evaluates R resamples in a few matrix products instead of R calls. Weights of 1
give the estimate itself. Times are in days, event 1 = happened, a higher risk is worse.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dmml.evaluation.statistics.censoring import CensoringCurve

Weighted = Callable[[NDArray], NDArray[np.float64]]
"""Maps weights (R, n) ≥ 0 to values (R,), NaN where undefined."""

Rows = Callable[[slice], tuple[NDArray, NDArray]]
"""Maps a slice of rows to those rows of the pair matrices: credit and comparability, each (rows, n)."""

ROWS = 1024


def estimate(metric: Weighted, n: int) -> float:
    """Value of the metric when every patient has weight 1."""
    return float(metric(np.ones((1, n)))[0])


def pair_share(rows: Rows, n: int) -> Weighted:
    """Σ w_i w_j credit_ij / Σ w_i w_j comparable_ij, built block by block so that memory stays rows × n."""

    def weighted(weights: NDArray) -> NDArray[np.float64]:
        credit_sum, pair_sum = np.zeros(len(weights)), np.zeros(len(weights))
        for start in range(0, n, ROWS):
            block = slice(start, start + ROWS)
            credit, comparable = (matrix.astype(weights.dtype, copy=False) for matrix in rows(block))
            credit_sum += np.einsum("rn,rn->r", weights[:, block] @ credit, weights, dtype=np.float64)
            pair_sum += np.einsum("rn,rn->r", weights[:, block] @ comparable, weights, dtype=np.float64)
        return divide(credit_sum, pair_sum)

    return weighted


def harrell(time: ArrayLike, event: ArrayLike, risk: ArrayLike, group: ArrayLike | None = None) -> Weighted:
    """Harrell's concordance; with `group` (n,), only pairs within the same group (a fold) are compared."""
    time, event, risk = _outcome(time, event, risk)
    same = None if group is None else np.unique(np.asarray(group), return_inverse=True)[1]

    def rows(block: slice) -> tuple[NDArray, NDArray]:
        comparable = _outlived(time, event, block)
        if same is not None:
            comparable &= same[block, None] == same
        return _order(risk, block) * comparable, comparable

    return pair_share(rows, len(time))


def uno(time: ArrayLike, event: ArrayLike, risk: ArrayLike, censoring: CensoringCurve, tau: float | None) -> Weighted:
    """Uno's concordance: a pair is weighted 1 / G(t_i−)² by its earlier time t_i and counts only if t_i < tau."""
    time, event, risk = _outcome(time, event, risk)
    tau = np.inf if tau is None else tau
    inverse = _inverse(censoring.before(time), needed=event & (time < tau)) ** 2

    def rows(block: slice) -> tuple[NDArray, NDArray]:
        weight = _outlived(time, event & (time < tau), block) * np.nan_to_num(inverse[block, None])
        return _order(risk, block) * weight, weight

    return _undefined(len(time)) if np.isnan(inverse).any() else pair_share(rows, len(time))


def dynamic_auc(time: ArrayLike, event: ArrayLike, risk: ArrayLike, day: float, censoring: CensoringCurve) -> Weighted:
    """Cumulative/dynamic AUC at `day`: patients dead by then, weighted 1 / G(t_i−), against those alive after it."""
    time, event, risk = _outcome(time, event, risk)
    case, control = event & (time <= day), time > day
    inverse = _inverse(censoring.before(time), needed=case)

    def rows(block: slice) -> tuple[NDArray, NDArray]:
        weight = (np.nan_to_num(inverse) * case)[block, None] * control
        return _order(risk, block) * weight, weight

    return _undefined(len(time)) if np.isnan(inverse).any() else pair_share(rows, len(time))


def brier(
    time: ArrayLike, event: ArrayLike, survival: NDArray, times: ArrayLike, censoring: CensoringCurve
) -> Weighted:
    """Integrated Brier score, (1 / (t_T − t_1)) ∫ BS(t) dt by the trapezoid rule: a mean of one value per patient."""
    loss = brier_parts(time, event, survival, times, censoring)  # (n, T)
    times = np.asarray(times, float)
    if len(times) == 1:
        part = loss[:, 0]
    else:
        part = np.trapezoid(loss, times, axis=1) / (times[-1] - times[0])
    if np.isnan(part).any():
        return _undefined(len(part))
    return lambda weights: divide(weights @ part, weights.sum(1, dtype=np.float64))


def brier_parts(
    time: ArrayLike, event: ArrayLike, survival: NDArray, times: ArrayLike, censoring: CensoringCurve
) -> NDArray[np.float64]:
    """Each patient's weighted squared error at each time, (n, T); its mean over patients is the Brier score.

    A patient who died by t has S(t)² / G(t_i−), one alive after t has (1 − S(t))² / G(t), one censored by t has 0.
    """
    time, event, survival = _outcome(time, event, survival)
    times = np.asarray(times, float)
    case, control = event[:, None] & (time[:, None] <= times), time[:, None] > times
    dead = _inverse(censoring.before(time), needed=case.any(1))[:, None]
    alive = _inverse(censoring.at(times), needed=control.any(0))[None]
    return np.where(case, survival**2 * dead, 0.0) + np.where(control, (1 - survival) ** 2 * alive, 0.0)


def divide(top: NDArray, bottom: NDArray) -> NDArray[np.float64]:
    """Elementwise quotient in float64, NaN where the divisor is 0."""
    top, bottom = np.asarray(top, np.float64), np.asarray(bottom, np.float64)
    return np.divide(top, bottom, out=np.full(np.broadcast(top, bottom).shape, np.nan), where=bottom != 0)


def _outcome(time: ArrayLike, event: ArrayLike, prediction: ArrayLike) -> tuple[NDArray, NDArray, NDArray]:
    time, event, prediction = np.asarray(time, float), np.asarray(event, float), np.asarray(prediction, float)
    if not len(time) == len(event) == len(prediction):
        raise ValueError(f"{len(time)} times, {len(event)} events and {len(prediction)} predictions: not one a patient")
    for name, values in (("time", time), ("event", event)):
        if np.isnan(values).any():
            raise ValueError(f"{name} is missing for {np.isnan(values).sum()} patients; leave them out first")
    return time, event > 0, prediction


def _outlived(time: NDArray, event: NDArray, block: slice) -> NDArray[np.bool_]:
    """(rows, n) whether i has the event and j is known to have outlived i (later, or censored on the same day)."""
    first = time[block, None]
    # `event` may be cut off at tau. On a shared day, i and j are then cut off together, so the tie rule still holds.
    return event[block, None] & ((first < time) | ((first == time) & ~event))


def _order(risk: NDArray, block: slice) -> NDArray[np.float32]:
    """(rows, n): 1 if i has the higher risk, ½ if the two are tied, else 0."""
    mine = risk[block, None]
    return (mine > risk).astype(np.float32) + np.float32(0.5) * (mine == risk)


def _inverse(probability: NDArray, needed: NDArray) -> NDArray[np.float64]:
    """1 / probability: 0 where it is not needed, NaN where it is needed but the probability is 0."""
    return np.where(needed, divide(np.ones_like(probability), probability), 0.0)


def _undefined(n: int) -> Weighted:
    return lambda weights: np.full(len(weights), np.nan)
