"""The follow-up of patients: the horizons that enough of them reach, and the distribution of their censoring.

Training fits both on its patients and evaluation uses both, so they lie in a package above the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

HORIZONS = (365.0, 1095.0, 1825.0)
"""1, 3 and 5 years in days, at which survival is reported and evaluated if enough patients were followed that long."""
MIN_SHARE_AT_RISK = 0.1
"""Share of patients who must still be followed at a horizon."""


def horizons_reached(time: ArrayLike) -> list[float]:
    """Horizons at which at least `MIN_SHARE_AT_RISK` of the patients are still followed.

    Args:
        time: (n,) days of follow-up, all known.
    """
    time = np.asarray(time, float)
    return [day for day in HORIZONS if len(time) and (time >= day).mean() >= MIN_SHARE_AT_RISK]


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

    def plain(self) -> dict[str, list[float]]:
        """{"time": [...], "survival": [...]}, as checkpoints and JSON files hold it."""
        return {"time": self.time.tolist(), "survival": self.survival.tolist()}

    def _padded(self) -> NDArray[np.float64]:
        return np.concatenate([[1.0], self.survival])


def censoring_curve(time: ArrayLike, event: ArrayLike) -> CensoringCurve:
    """Kaplan–Meier estimate of the censoring distribution.

    Censoring is the event here. A patient who dies on a day is no longer at risk of being censored on that day, which
    mirrors the usual rule that deaths come before censorings. lifelines does not have this rule for censorings, which
    is why it is not used here.

    Args:
        time: (n,) days.
        event: (n,) 1 = happened, 0 = censored.
    """
    time, died = np.asarray(time, float), np.asarray(event, float) > 0
    days = np.unique(time)
    at_risk = len(time) - np.searchsorted(np.sort(time), days, side="left")
    deaths, censorings = _count(time[died], days), _count(time[~died], days)
    return CensoringCurve(days, np.cumprod(1.0 - censorings / np.maximum(at_risk - deaths, 1)))


def _count(times: NDArray, days: NDArray) -> NDArray[np.int64]:
    """(K,) how many of the times fall on each day."""
    ordered = np.sort(times)
    return np.searchsorted(ordered, days, side="right") - np.searchsorted(ordered, days, side="left")
