"""Kaplan–Meier curves of the high-risk and low-risk patients of a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from dmml.evaluation import interval_settings


@dataclass(frozen=True)
class Curve:
    """A Kaplan–Meier curve: a step function with its confidence band (log-log Greenwood).

    Attributes:
        name: Name of the group.
        n: Number of patients.
        events: Number of events among them.
        time: (K,) days, from 0.
        survival: (K,) event-free share after each day.
        low: (K,) lower limit of the band.
        high: (K,) upper limit of the band.
        times: (n,) follow-up of every patient in days, for the numbers at risk.
        censored: (c,) days of the censorings.
    """

    name: str
    n: int
    events: int
    time: NDArray[np.float64]
    survival: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    times: NDArray[np.float64]
    censored: NDArray[np.float64]

    def at_risk(self, days: ArrayLike) -> list[int]:
        """Numbers of patients still followed when each day begins."""
        return [int((self.times >= day).sum()) for day in np.atleast_1d(days)]

    def at(self, day: float) -> tuple[float, float, float]:
        """(survival, low, high) at `day`; NaN after the last follow-up, unless the curve has dropped to 0."""
        if day > self.times.max() and self.survival[-1] > 0:
            return float("nan"), float("nan"), float("nan")
        index = np.searchsorted(self.time, day, side="right") - 1
        return float(self.survival[index]), float(self.low[index]), float(self.high[index])


@dataclass(frozen=True)
class RiskGroups:
    """Low- and high-risk curves, their cut, and the test of their difference.

    Attributes:
        curves: Low risk first; a group without patients is absent.
        cut: Risk above which a patient is high risk.
        from_training: Whether the cut is the training patients' median instead of that of these patients.
        p: p value of the log-rank test; NaN with one group or without events.
    """

    curves: list[Curve]
    cut: float
    from_training: bool
    p: float


def kaplan_meier(time: ArrayLike, event: ArrayLike, name: str = "") -> Curve:
    """Kaplan–Meier estimate, computed by lifelines."""
    from lifelines import KaplanMeierFitter

    time, event = np.asarray(time, float), np.asarray(event, float) > 0
    fitted = KaplanMeierFitter(alpha=interval_settings.alpha()).fit(time, event)
    band = fitted.confidence_interval_survival_function_.to_numpy(float)
    survival = fitted.survival_function_.iloc[:, 0].to_numpy(float)
    # After a drop to 0, lifelines has no band; the estimate replaces it, so that the drawn band ends there.
    band = np.where(np.isnan(band), survival[:, None], band)
    days = fitted.survival_function_.index.to_numpy(float)
    return Curve(name, len(time), int(event.sum()), days, survival, band[:, 0], band[:, 1], time, np.sort(time[~event]))


def risk_groups(patients: pd.DataFrame, median_risk: float | None) -> RiskGroups:
    """Split patients at the training patients' median risk, which does not depend on test outcomes.

    Args:
        patients: `time` (days), `event` and `risk` of at least one patient.
        median_risk: Median risk of the training patients; None cuts at the median of these patients, and
            `from_training` of the result is False.
    """
    from lifelines.statistics import logrank_test

    cut = float(patients["risk"].median() if median_risk is None else median_risk)
    is_high = patients["risk"].to_numpy(float) > cut
    low, high = patients[~is_high], patients[is_high]
    groups = (("low risk", low), ("high risk", high))
    curves = [kaplan_meier(group["time"], group["event"], name) for name, group in groups if len(group)]
    p = float("nan")
    if len(curves) == 2 and patients["event"].sum() > 0:
        p = float(logrank_test(low["time"], high["time"], low["event"], high["event"]).p_value)
    return RiskGroups(curves, cut, median_risk is not None, p)
