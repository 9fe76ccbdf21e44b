"""Calibration: do 70 % of the patients with a predicted survival of 70 % survive?

Survival predictions are checked at the horizons, class predictions by their confidence.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from dmml.evaluation import interval_settings
from dmml.evaluation.predictions import curve_at, survival_days
from dmml.evaluation.statistics.classification import confidence_bins
from dmml.evaluation.statistics.survival_curves import kaplan_meier

MAX_TEST_GROUPS, MIN_TEST_EVENTS, MIN_TEST_FOLLOWED = 10, 15, 8
"""Formal test: maximum number of groups; minimum events, and minimum patients followed to the day, of each group."""
MIN_GROUP_SIZE = 12
"""Minimum number of patients in a risk group."""
MAX_GROUPS = 5
"""Maximum number of risk groups."""


@dataclass(frozen=True)
class Calibration:
    """Predicted against observed survival at one day.

    Attributes:
        day: Horizon, days.
        groups: One row per risk group: `n`, `predicted` (mean), `observed` (Kaplan–Meier) with `low`, `high`.
        predicted: Mean predicted survival of all patients.
        observed: Kaplan–Meier survival of all patients at the day; NaN if nobody was followed that long.
        slope: Cox coefficient of log(−log S_predicted(day)) with follow-up cut off at the day: 1 = ideal, below 1 =
            predictions are too extreme, NaN if it cannot be fitted.
        slope_low: Lower limit of its interval.
        slope_high: Upper limit.
        intercept: log(observed / expected events up to the day): 0 = ideal, above 0 = more events than predicted; NaN
            without an event.
        intercept_low: Lower limit of its interval.
        intercept_high: Upper limit.
        chi2: Greenwood–Nam–D'Agostino statistic over risk groups; NaN if the test is not possible.
        df: Its degrees of freedom.
        p: p value of the hypothesis that the predictions are right; a small p speaks against them.
        reason: Why the test is not possible; empty if it is.
    """

    day: float
    groups: pd.DataFrame
    predicted: float
    observed: float
    slope: float
    slope_low: float
    slope_high: float
    intercept: float = float("nan")
    intercept_low: float = float("nan")
    intercept_high: float = float("nan")
    chi2: float = float("nan")
    df: int = 0
    p: float = float("nan")
    reason: str = ""

    def plain(self) -> dict[str, Any]:
        """Content for a JSON file: {name: number or None}, with the groups as a list of rows."""
        content = {name: _number(value) for name, value in vars(self).items() if name != "groups"}
        return content | {"groups": [{k: _number(v) for k, v in row.items()} for row in self.groups.to_dict("records")]}


def calibration_at(patients: pd.DataFrame, day: float) -> Calibration | None:
    """Calibration of survival predictions at `day`.

    None if the model predicts no survival at the day, or if there are too few patients for two risk groups.

    Args:
        patients: `time`, `event` and `survival_<days>` of the patients with a known outcome.
        day: Horizon, days.
    """
    days = survival_days(patients)
    n_groups = min(MAX_GROUPS, len(patients) // MIN_GROUP_SIZE)
    if not days or day > days[-1] or n_groups < 2:
        return None
    predicted = curve_at(patients, [day])[:, 0]
    # Ranks break ties by order, so that the groups stay equal in size whatever the predictions.
    rank = pd.Series(predicted).rank(method="first").to_numpy() - 1
    group = (rank * n_groups // len(patients)).astype(int)
    rows = []
    for index in range(n_groups):
        members = patients[group == index]
        observed, low, high = kaplan_meier(members["time"], members["event"]).at(day)
        mean = predicted[group == index].mean()
        rows.append({"n": len(members), "predicted": mean, "observed": observed, "low": low, "high": high})
    overall = kaplan_meier(patients["time"], patients["event"]).at(day)[0]
    slope, intercept = _slope(patients, predicted, day), _intercept(patients, day)
    chi2, df, p, reason = greenwood_test(patients["time"], patients["event"], predicted, day)
    return Calibration(
        float(day), pd.DataFrame(rows), float(predicted.mean()), overall, *slope, *intercept, chi2, df, p, reason
    )


def greenwood_test(
    time: ArrayLike, event: ArrayLike, predicted: ArrayLike, day: float
) -> tuple[float, int, float, str]:
    """Greenwood–Nam–D'Agostino test of the hypothesis that predicted survival at a day is right.

    χ² = Σ_groups (KM_g(day) − mean predicted_g)² / Greenwood variance of KM_g(day), with as many degrees of freedom as
    groups, since nothing was fitted to these patients. Patients are split by prediction into ten groups of equal size,
    and a group is merged with the next until it has `MIN_TEST_EVENTS` events by the day and `MIN_TEST_FOLLOWED` patients still
    followed then. With fewer, the variance is too uncertain, and a right model is rejected too often.

    Args:
        time: (n,) days.
        event: (n,) 1 = happened.
        predicted: (n,) survival at `day`.
        day: Horizon, days.

    Returns:
        (χ², degrees of freedom, p, ""), or (NaN, 0, NaN, reason) if the test is not possible.

    Source: Demler, Paynter & Cook 2015.
    """
    from scipy.stats import chi2 as distribution

    time, event, predicted = (np.asarray(values, float) for values in (time, event, predicted))
    order = np.argsort(predicted, kind="stable")
    by_day = (event > 0) & (time <= day)
    groups: list[NDArray] = []
    pending = np.zeros(0, int)
    for part in np.array_split(order, MAX_TEST_GROUPS):
        pending = np.concatenate([pending, part])
        if by_day[pending].sum() >= MIN_TEST_EVENTS and (time[pending] >= day).sum() >= MIN_TEST_FOLLOWED:
            groups.append(pending)
            pending = np.zeros(0, int)
    if len(pending) and groups:  # the remaining patients are too few for a group
        groups[-1] = np.concatenate([groups[-1], pending])
    if len(groups) < 2:
        reason = f"no two risk groups have {MIN_TEST_EVENTS} events by day {day:g} and {MIN_TEST_FOLLOWED} patients still followed then"
        return float("nan"), 0, float("nan"), reason
    total = 0.0
    for members in groups:
        observed, variance = _greenwood(time[members], event[members] > 0, day)
        total += (observed - predicted[members].mean()) ** 2 / variance
    return float(total), len(groups), float(distribution.sf(total, len(groups))), ""


def _greenwood(time: NDArray, event: NDArray, day: float) -> tuple[float, float]:
    """Kaplan–Meier survival at a day that some patients are followed to, and its variance S² Σ d / (n (n − d)).

    lifelines computes the sum, too, but keeps it in a private attribute. Its public bands give the variance only after
    their log-log transformation is inverted, which loses digits.
    """
    days = np.unique(time[event & (time <= day)])
    at_risk = (time >= days[:, None]).sum(1)
    deaths = ((time == days[:, None]) & event).sum(1)
    survival = np.prod(1 - deaths / at_risk)
    return float(survival), float(survival**2 * (deaths / (at_risk * (at_risk - deaths))).sum())


def _intercept(patients: pd.DataFrame, day: float) -> tuple[float, float, float]:
    """log(O / E) for O events up to the day and E = Σ −log S_i(min(t_i, day)), with the error of a Poisson count.

    Source: Crowson, Atkinson & Therneau 2016.
    """
    time, event = patients["time"].to_numpy(float), patients["event"].to_numpy(float) > 0
    followed = np.minimum(time, day)
    observed = int((event & (time <= day)).sum())
    days, day_of = np.unique(followed, return_inverse=True)
    survival = curve_at(patients, days)[np.arange(len(patients)), day_of]
    expected = float(-np.log(np.clip(survival, 1e-12, 1)).sum())
    if observed == 0 or not expected > 0:
        return (float("nan"),) * 3
    value, half_width = np.log(observed / expected), interval_settings.normal_quantile() / np.sqrt(observed)
    return float(value), float(value - half_width), float(value + half_width)


def _slope(patients: pd.DataFrame, predicted: NDArray, day: float) -> tuple[float, float, float]:
    from lifelines import CoxPHFitter
    from lifelines.exceptions import ConvergenceError

    undefined = (float("nan"),) * 3
    time, event = patients["time"].to_numpy(float), patients["event"].to_numpy(float)
    score = np.log(-np.log(np.clip(predicted, 1e-6, 1 - 1e-6)))
    by_day = event * (time <= day)
    if by_day.sum() < 5 or np.ptp(score) < 1e-9:
        return undefined
    table = pd.DataFrame({"time": np.minimum(time, day).clip(min=1e-3), "event": by_day, "score": score})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitted = CoxPHFitter(alpha=interval_settings.alpha()).fit(table, "time", "event")
    except (ConvergenceError, ValueError, np.linalg.LinAlgError):
        return undefined
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


def _number(value: str | float) -> str | float | None:
    """Convert a value for a JSON file: NaN becomes None."""
    if isinstance(value, str | int):
        return value
    return float(value) if np.isfinite(value) else None
