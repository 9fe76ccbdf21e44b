"""The censoring distribution, from which inverse-probability weights are computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class CensoringCurve:
    """G(t) = P(censored after t), a right-continuous step function; 1 before the first step, flat after the last.

    Args:
        time: (K,) increasing days.
        survival: (K,) G from each of these days on.
    """

    time: NDArray[np.float64]
    survival: NDArray[np.float64]

    def at(self, day: ArrayLike) -> NDArray[np.float64]:
        """G(t), the probability of still being under observation after `day`."""
        return self._padded()[np.searchsorted(self.time, np.asarray(day, float), side="right")]

    def before(self, day: ArrayLike) -> NDArray[np.float64]:
        """G(t−), the probability of still being under observation when `day` begins; used for events on `day`."""
        return self._padded()[np.searchsorted(self.time, np.asarray(day, float), side="left")]

    def last_day_above(self, share: float) -> float:
        """First day on which G falls to `share` or below; infinity if it never does."""
        low = np.flatnonzero(self.survival <= share)
        return float(self.time[low[0]]) if len(low) else float("inf")

    def _padded(self) -> NDArray[np.float64]:
        return np.concatenate([[1.0], self.survival])


def censoring_curve(time: ArrayLike, event: ArrayLike) -> CensoringCurve:
    """Kaplan–Meier estimate of the censoring distribution.

    Censoring is the event here. A patient who dies on a day is no longer at risk of being censored on that day, which
    mirrors the usual rule that deaths come before censorings.

    Args:
        time: (n,) days.
        event: (n,) 1 = happened, 0 = censored.
    """
    time, event = np.asarray(time, float), np.asarray(event, float) > 0
    days = np.unique(time)
    ordered = np.sort(time)
    at_risk = len(time) - np.searchsorted(ordered, days, side="left")
    deaths = _count(time[event], days)
    censored = _count(time[~event], days)
    steps = 1.0 - censored / np.maximum(at_risk - deaths, 1)
    return CensoringCurve(days, np.cumprod(steps))


def as_censoring(
    censoring: CensoringCurve | tuple[ArrayLike, ArrayLike] | None, time: ArrayLike, event: ArrayLike
) -> CensoringCurve:
    """Return the given curve (of training patients), or estimate it from `time` and `event` if it is None.

    Raises:
        ValueError: The days and the values are not two lists of one length.
    """
    if censoring is None:
        return censoring_curve(time, event)
    if isinstance(censoring, CensoringCurve):
        return censoring
    days, survival = (np.asarray(part, float) for part in censoring)
    if days.shape != survival.shape or days.ndim != 1:
        raise ValueError(f"censoring needs two lists of one length, got shapes {days.shape} and {survival.shape}")
    order = np.argsort(days, kind="stable")
    return CensoringCurve(days[order], survival[order])


def _count(values: NDArray, days: NDArray) -> NDArray:
    ordered = np.sort(values)
    return np.searchsorted(ordered, days, side="right") - np.searchsorted(ordered, days, side="left")
