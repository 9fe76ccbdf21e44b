"""Antolini's time-dependent concordance: pairs of patients in the order of their predicted survival on the day of an event."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from dmml.evaluation.predictions import curve_at, survival_days
from dmml.evaluation.statistics.weighted import (
    Pairs,
    Weighted,
    checked_outcome,
    order,
    outlived,
    pair_share,
    undefined_metric,
)

SurvivalOn = Callable[[NDArray], NDArray[np.float64]]
"""Maps days (T,) to the predicted survival (n, T) of n patients on these days."""


def antolini(patients: pd.DataFrame) -> Weighted:
    """Antolini's concordance of predictions; undefined if they contain no survival curves.

    Args:
        patients: `time`, `event` and `survival_<days>` of patients with a known outcome.
    """
    pairs = pairs_of(patients)
    return undefined_metric if pairs is None else pair_share([pairs])


def pairs_of(patients: pd.DataFrame) -> Pairs | None:
    """Pairs of Antolini's concordance (see `antolini_pairs`); None without survival curves."""
    days = survival_days(patients)
    if not days:
        return None
    return antolini_pairs(patients["time"], patients["event"], lambda on: curve_at(patients, on), days[-1])


def antolini_pairs(time: ArrayLike, event: ArrayLike, survival: SurvivalOn, last_day: float) -> Pairs:
    """Pairs of Harrell's concordance, put in order by the predicted survival on the day of the earlier event.

    A pair counts if i has the event and j is known to outlive i; it is in order if S(t_i | x_i) < S(t_i | x_j). Ties
    count half, as in Harrell's concordance; in the paper they count 0. If the predicted curves do not cross, the order
    is the same on every day, and the two concordances agree.

    Args:
        time: (n,) days.
        event: (n,) 1 = happened.
        survival: The predicted curves of these patients.
        last_day: Last predicted day; pairs with a later event cannot be put in order and do not count.

    Source: Antolini, Boracchi & Biganzoli 2005.
    """
    time, died, _ = checked_outcome(time, event, time)
    usable = died & (time <= last_day)

    def block(rows: slice) -> tuple[NDArray, NDArray]:
        # Later events do not count, so it does not matter which day they are moved to.
        hazard = -survival(np.minimum(time[rows], last_day)).T  # (rows, n)
        of_row = hazard[np.arange(len(hazard)), np.arange(len(time))[rows]]
        counted = outlived(time, usable, rows)
        return counted, order(of_row[:, None], hazard) * counted

    return Pairs(len(time), block)
