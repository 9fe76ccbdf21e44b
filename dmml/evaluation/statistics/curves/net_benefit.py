"""Net benefit of treating the patients whose predicted risk reaches a threshold: decision curves.

At the threshold p, a false positive costs p / (1 − p) true positives:

    net benefit = true positives / n − false positives / n · p / (1 − p)

The functions return curves that take weights (R, n) and give the net benefit (R, T) at T thresholds.

Source: Vickers & Elkin 2006; for survival, Vickers, Cronin, Elkin & Gonen 2008.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dmml.evaluation.bootstrap import WeightedCurve
from dmml.evaluation.statistics.weighted import checked_outcome, divide

THRESHOLDS = np.arange(2, 100, 2) / 100
"""Risks at which decision curves are computed."""


def class_net_benefit(is_case: ArrayLike, risk: ArrayLike, cut: NDArray, thresholds: NDArray) -> WeightedCurve:
    """Net benefit for an outcome that is known of every patient.

    Args:
        is_case: (n,) bool.
        risk: (n,) predicted probability of being a case.
        cut: (T,) risk from which a patient is treated: `thresholds`, or zeros to treat every patient.
        thresholds: (T,) threshold p at which treatment is worth its harm.
    """
    case, treated = np.asarray(is_case, float)[:, None], np.asarray(risk, float)[:, None] >= cut
    gain = treated * (case - (1 - case) * _odds(thresholds))
    return lambda weights: divide(weights @ gain, weights.sum(1, keepdims=True, dtype=np.float64))


def survival_net_benefit(
    time: ArrayLike, event: ArrayLike, risk: ArrayLike, day: float, cut: NDArray, thresholds: NDArray
) -> WeightedCurve:
    """Net benefit for an event by a day, under censoring.

    The true positives are the share of treated patients times the event rate among them, 1 − their Kaplan–Meier
    survival at the day. It is undefined where the follow-up of the treated ends before the day.

    Args:
        time: (n,) days.
        event: (n,) 1 = happened.
        risk: (n,) predicted probability of an event by the day.
        day: Horizon, days.
        cut: See `class_net_benefit`.
        thresholds: See `class_net_benefit`.
    """
    times, died, risks = checked_outcome(time, event, risk)
    order = np.argsort(times, kind="stable")
    patients = _Patients(times[order], died[order] & (times[order] <= day), day)
    treated = risks[order][:, None] >= cut

    def curve(weights: NDArray) -> NDArray[np.float64]:
        w = np.asarray(weights, np.float64)[:, order]
        total = w.sum(1)
        values = np.empty((len(w), len(thresholds)))
        for k, odds in enumerate(_odds(thresholds)):
            # Neighbouring thresholds often treat the same patients, whose survival is then computed once.
            if k == 0 or (treated[:, k] != treated[:, k - 1]).any():
                share, rate = divide(w[:, treated[:, k]].sum(1), total), patients.event_rate(w, treated[:, k])
            values[:, k] = share * (rate - (1 - rate) * odds)
        return values

    return curve


@dataclass(frozen=True)
class _Patients:
    """Patients in the order of their follow-up: `times` (n,), and `died` (n,), whether they died by `day`."""

    times: NDArray[np.float64]
    died: NDArray[np.bool_]
    day: float

    def event_rate(self, weights: NDArray, members: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(R,) 1 − Kaplan–Meier survival of the members at the day; 0 without a member, NaN if it is undefined."""
        w, times = weights[:, members], self.times[members]
        days = np.unique(times[self.died[members]])
        zero = np.zeros((len(w), 1))
        before = np.concatenate([zero, np.cumsum(w, axis=1)], axis=1)
        deaths_before = np.concatenate([zero, np.cumsum(w * self.died[members], axis=1)], axis=1)
        first, after = np.searchsorted(times, days), np.searchsorted(times, days, side="right")
        at_risk = before[:, -1:] - before[:, first]
        deaths = deaths_before[:, after] - deaths_before[:, first]
        # Sums of weights in another order differ by rounding, so that a curve which drops to 0 could miss it.
        survival = np.prod(1 - np.minimum(1, np.nan_to_num(divide(deaths, at_risk)).round(12)), axis=1)
        followed = w[:, times >= self.day].sum(1) > 0
        return np.where(followed | (survival == 0) | (before[:, -1] == 0), 1 - survival, np.nan)


def _odds(thresholds: NDArray) -> NDArray[np.float64]:
    return thresholds / (1 - thresholds)
