"""Calibration: of the patients told 70 %, do 70 % live? At horizons for survival, by confidence for classes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmml.evaluation.classification import confidence_bins
from dmml.evaluation.predictions import curve_at, survival_days
from dmml.evaluation.survival_curves import kaplan_meier

GROUP_SIZE = 12
"""Patients a risk group at least."""
MAX_GROUPS = 5


@dataclass(frozen=True)
class Calibration:
    """Predicted against observed survival at one day.

    Attributes:
        day: Horizon, days.
        groups: One row a risk group: `n`, `predicted` (mean), `observed` (Kaplan–Meier) with `low`, `high`.
        predicted: Mean predicted survival of all.
        observed: Kaplan–Meier survival of all at the day; NaN where nobody was followed so long.
        slope: Cox coefficient of log(−log S_predicted(day)) with follow-up cut at the day: 1 = as it should be, below 1
            = predictions too extreme, NaN where it cannot be fitted.
        slope_low: Lower end of its 95 % interval.
        slope_high: Upper end.
    """

    day: float
    groups: pd.DataFrame
    predicted: float
    observed: float
    slope: float
    slope_low: float
    slope_high: float


def calibration_at(known: pd.DataFrame, day: float) -> Calibration | None:
    """Calibration of survival predictions at `day`; None where the model gives none there, or for under two groups.

    Args:
        known: `time`, `event`, `survival_<days>` of patients whose outcome is known.
        day: Horizon, days.
    """
    days = survival_days(known)
    n_groups = min(MAX_GROUPS, len(known) // GROUP_SIZE)
    if not days or day > days[-1] or n_groups < 2:
        return None
    predicted = curve_at(known, [day])[:, 0]
    # Ranks part ties by order, so that groups stay equal in size whatever the predictions.
    group = pd.Series(predicted).rank(method="first").sub(1).mul(n_groups).floordiv(len(known)).astype(int).to_numpy()
    rows = []
    for index in range(n_groups):
        part = known[group == index]
        observed, low, high = kaplan_meier(part["time"], part["event"]).at(day)
        mean = predicted[group == index].mean()
        rows.append({"n": len(part), "predicted": mean, "observed": observed, "low": low, "high": high})
    overall = kaplan_meier(known["time"], known["event"]).at(day)[0]
    return Calibration(day, pd.DataFrame(rows), float(predicted.mean()), overall, *_slope(known, predicted, day))


def _slope(known: pd.DataFrame, predicted: NDArray, day: float) -> tuple[float, float, float]:
    from lifelines import CoxPHFitter
    from lifelines.exceptions import ConvergenceError

    nothing = (float("nan"),) * 3
    time, event = known["time"].to_numpy(float), known["event"].to_numpy(float)
    score = np.log(-np.log(np.clip(predicted, 1e-6, 1 - 1e-6)))
    by_day = event * (time <= day)
    if by_day.sum() < 5 or np.ptp(score) < 1e-9:
        return nothing
    table = pd.DataFrame({"time": np.minimum(time, day).clip(min=1e-3), "event": by_day, "score": score})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitted = CoxPHFitter().fit(table, "time", "event")
    except (ConvergenceError, ValueError, np.linalg.LinAlgError):
        return nothing
    low, high = fitted.confidence_intervals_.loc["score"]
    return float(fitted.params_["score"]), float(low), float(high)


def reliability(label: NDArray[np.int64], probability: NDArray[np.float64]) -> pd.DataFrame:
    """Hit rate by confidence, in the bins of `classification.calibration_error`: `n`, `confidence`, `hit_rate`."""
    confidence, hit = probability.max(1), probability.argmax(1) == label
    table = pd.DataFrame({"bin": confidence_bins(confidence), "confidence": confidence, "hit": hit})
    grouped = table.groupby("bin")
    return pd.DataFrame(
        {"n": grouped.size(), "confidence": grouped["confidence"].mean(), "hit_rate": grouped["hit"].mean()}
    ).reset_index(drop=True)
