"""Cox hazard ratio of two groups of patients, such as high against low risk, with a fold's groups in a stratum of their own."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from dmml.evaluation import interval_settings

_PRECISION = {"precision": 1e-10, "r_precision": 1e-14}
"""Steps end here; by default lifelines stops where the ratio may still change in its fourth digit."""


class HazardRatio(NamedTuple):
    """Hazard ratio of high against low risk; all numbers are NaN where it has no finite estimate.

    Attributes:
        value: 1 = both groups die at the same rate, above 1 = the group at high risk dies faster.
        low: Lower limit of the Wald interval, at the level of `interval_settings`.
        high: Upper limit.
        p: Two-sided p value of the Wald test.
        reason: Why the ratio is undefined; empty if it is defined.
    """

    value: float
    low: float
    high: float
    p: float
    reason: str = ""


def hazard_ratio(time: ArrayLike, event: ArrayLike, is_high: ArrayLike, strata: ArrayLike | None = None) -> HazardRatio:
    """Hazard ratio of two groups by Cox regression on one binary covariate, computed by lifelines (ties after Efron).

    The estimate is finite only if each group has an event while patients of both groups (of the same stratum) are at
    risk. Otherwise the partial likelihood rises without end as the ratio goes to 0 or to infinity, or does not depend
    on it, and the reason says which.

    Args:
        time: (n,) days.
        event: (n,) 1 = happened.
        is_high: (n,) whether the patient is at high risk.
        strata: (n,) label of each patient's stratum, such as the fold; each has its own baseline hazard. None = one.

    Source: Cox 1972; Fig. 6 of the paper, hazard ratio of a median split.
    """
    times, events = np.asarray(time, float), np.asarray(event, float) > 0
    high = np.asarray(is_high, bool)
    stratum = np.zeros(len(times)) if strata is None else np.asarray(strata)
    if reason := _why_undefined(times, events, high, stratum):
        return _undefined(reason)
    return _fit(pd.DataFrame({"time": times, "event": events, "high": high.astype(float), "stratum": stratum}))


def _undefined(reason: str) -> HazardRatio:
    nan = float("nan")
    return HazardRatio(nan, nan, nan, nan, reason)


def _fit(table: pd.DataFrame) -> HazardRatio:
    from lifelines import CoxPHFitter
    from lifelines.exceptions import ConvergenceError

    strata = ["stratum"] if table["stratum"].nunique() > 1 else None
    columns = table if strata else table.drop(columns="stratum")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitter = CoxPHFitter(alpha=interval_settings.alpha())
            fitted = fitter.fit(columns, "time", "event", strata=strata, fit_options=_PRECISION)
    except (ConvergenceError, ValueError, np.linalg.LinAlgError):
        return _undefined("the Cox regression did not converge")
    low, high = np.exp(fitted.confidence_intervals_.loc["high"])
    return HazardRatio(
        float(fitted.hazard_ratios_["high"]), float(low), float(high), float(fitted.summary["p"]["high"])
    )


def _why_undefined(time: NDArray, event: NDArray, high: NDArray, stratum: NDArray) -> str:
    """Explain why the partial likelihood has no finite maximum; empty if it has one."""
    if not event.any():
        return f"none of the {len(time)} patients had the event"
    groups = {"low": ~high, "high": high}
    for name, members in groups.items():
        if not members.any():
            other = "high" if name == "low" else "low"
            return f"all {len(time)} patients are at {other} risk, so there is nothing to compare"
    is_informative = event & _both_at_risk(time, high, stratum)
    counts = {name: int((is_informative & members).sum()) for name, members in groups.items()}
    if not any(counts.values()):
        return "no event happened while patients of both groups were followed"
    for name, members in groups.items():
        if not counts[name]:
            when = "" if not (event & members).any() else " while patients of both groups were followed"
            return f"none of the {int(members.sum())} patients at {name} risk had the event{when}, so no finite ratio fits best"
    return ""


def _both_at_risk(time: NDArray, high: NDArray, stratum: NDArray) -> NDArray[np.bool_]:
    """(n,) whether patients of both groups in the same stratum are followed when each patient's time ends."""
    both = np.zeros(len(time), bool)
    for label in np.unique(stratum):
        members = stratum == label
        if high[members].any() and not high[members].all():
            both[members] = time[members] <= min(time[members & high].max(), time[members & ~high].max())
    return both
