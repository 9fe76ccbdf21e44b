"""Conformal lower bounds of the time to an event, calibrated on patients of whom some are censored.

The score of an event on day t is F(t | x), the predicted probability of an event up to t. A calibration patient counts if
the event was observed, or if the patient was followed to the last day τ on which a share of the training patients is
still followed. The weight of such a patient is 1 / G(t−), with G the distribution of censoring of the training patients
and t the day of the event, or τ. Day t is left out of the set of a new patient if

    Σ_i w_i 1{score_i ≤ F(t | x)} + w(t)  ≤  α (Σ_i w_i + w(t)),

and the bound is the first day that is not left out. Left-out days always come first, because both F and w ascend.

If censoring is independent of the event and of the patient, and G is known, the counted patients differ from all
patients by a known weight, and weighted conformal prediction bounds the chance of an event before the bound by α, for any
model and any number of patients. G is estimated from other patients, the training patients; its error adds to α at most
half its mean effect on the weights. No bound exceeds τ, so that no weight exceeds 1 / `MIN_FOLLOWED`.

Source: Tibshirani, Barber, Candès & Ramdas 2019, Theorem 2, with the weights of inverse probability of censoring; bounds
of survival times: Candès, Lei & Ren 2023, who need the day of censoring of every patient, which is unknown after an event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dmml.cohort.clinical.follow_up import CensoringCurve
from dmml.evaluation.limits.prediction_sets import too_few
from dmml.evaluation.limits.quantiles import min_sample

LEVELS = (0.9, 0.8, 0.5)
"""Probabilities of which a bound is stated"""
MIN_FOLLOWED = 0.3
"""Share of the training patients who must still be followed on the last day of a bound"""


def as_curve(plain: Mapping[str, Sequence[float]]) -> CensoringCurve:
    """Return the distribution of censoring of a checkpoint, {"time": days, "survival": values}."""
    return CensoringCurve(np.asarray(plain["time"], float), np.asarray(plain["survival"], float))


def last_day(censoring: CensoringCurve, end: float) -> float:
    """Return τ, the last day that a bound may have.

    Args:
        censoring: Distribution of censoring of the training patients.
        end: Last day of the predicted curves.
    """
    return float(min(end, censoring.last_day_above(MIN_FOLLOWED)))


def fit_bounds(
    event_probability: NDArray, time: ArrayLike, event: ArrayLike, censoring: CensoringCurve, tau: float
) -> dict[str, Any]:
    """Calibrate the bounds, in plain Python.

    Args:
        event_probability: (n,) predicted probability of an event up to each patient's day, or up to τ if that is later.
        time: (n,) days.
        event: (n,) 1 = happened.
        censoring: Distribution of censoring of the training patients.
        tau: τ, see `last_day`.

    Returns:
        `n`, `events` (before τ), `tau`, `total` weight, ascending `scores` of the events and their `weights`. If
        the total weight, which is n on average, is below `min_sample` of the first level, `reason` says so.
    """
    time, event = np.asarray(time, float), np.asarray(event, float) > 0
    is_event, is_followed = event & (time < tau), time >= tau
    weight = 1 / censoring.before(np.minimum(time, tau))
    order = np.flatnonzero(is_event)[np.argsort(event_probability[is_event], kind="stable")]
    calibration: dict[str, Any] = {
        "n": len(time),
        "events": int(is_event.sum()),
        "tau": float(tau),
        "total": float(weight[is_event | is_followed].sum()),
        "scores": [float(value) for value in event_probability[order]],
        "weights": [float(value) for value in weight[order]],
    }
    if calibration["total"] < min_sample(1 - LEVELS[0]):
        calibration["reason"] = too_few(len(time), LEVELS[0])
    return calibration


def lower_bound(
    calibration: Mapping[str, Any],
    level: float,
    days: NDArray,
    event_probability: NDArray,
    censoring: CensoringCurve,
) -> float:
    """Return the day before which an event has a probability of at most 1 − level; 0 if nothing can be promised.

    Args:
        calibration: From `fit_bounds`.
        level: 1 − α.
        days: (K,) ascending days from 0 on; those after τ are not needed.
        event_probability: (K,) the patient's predicted probability of an event up to each day.
        censoring: The distribution of censoring that calibrated the bounds.
    """
    cumulative = np.concatenate([[0.0], np.cumsum(calibration["weights"])])
    reached = cumulative[np.searchsorted(calibration["scores"], event_probability, side="right")]
    weight = 1 / censoring.before(days)
    is_kept = reached + weight > (1 - level) * (calibration["total"] + weight) + 1e-9
    first = float(days[np.argmax(is_kept)]) if is_kept.any() else calibration["tau"]
    return min(first, calibration["tau"])


def bounds(
    calibration: Mapping[str, Any],
    days: NDArray,
    event_probability: NDArray,
    censoring: CensoringCurve,
    levels: Sequence[float] = LEVELS,
) -> list[dict[str, Any]]:
    """Return [{"level", "days", "is_last"}] of the levels for which something can be promised.

    `is_last` is whether the bound is τ, beyond which the calibration cannot look. See `lower_bound` for the arguments.
    """
    stated = [(level, lower_bound(calibration, level, days, event_probability, censoring)) for level in levels]
    tau = calibration["tau"]
    return [{"level": level, "days": day, "is_last": day >= tau} for level, day in stated if day > 0]
