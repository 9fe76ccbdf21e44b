"""Checks whether an outcome is plausible: the unit of time, the length of follow-up and the share of events."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dmml.cohort.clinical.outcome import Outcome
from dmml.errors import InputError

_MIN_PATIENTS = 10  # with fewer patients, a short follow-up cannot be judged
_MAX_DAYS = 110 * 365.25  # nobody is followed longer
_MAX_CODES = 4  # so few different values are usually codes
_SHORT_DAYS = 400  # if no patient is followed longer, times may be in months
_MIN_PATIENTS_OF_TAIL = 40  # with fewer patients, the tail of the times cannot be judged
_TAIL, _TAIL_Z = 0.9, 2.0  # quantile of time where the tail starts; standard errors of its excess of events


def check_time_unit(path: object, outcome: Outcome, days: pd.Series) -> None:
    """Refuse impossibly long times, which are usually given in another unit.

    Raises:
        InputError: The longest time is above 110 years.
    """
    longest = days.max()
    if longest > _MAX_DAYS:
        raise InputError(
            f"{path}: the longest time in {outcome.time!r} would be {longest / 365.25:,.0f} years, in the unit {outcome.unit}; "
            "correct the unit of the outcome (days, months or years)"
        )


def outcome_doubts(patients: pd.DataFrame) -> list[str]:
    """Describe what makes a survival outcome or a value doubtful, one sentence per doubt.

    The patients who were followed longest are usually censored. If the tenth that was followed longest has a higher
    share of events than the whole cohort, and events are the majority, 0 and 1 may be exchanged.
    Values that are the same for all patients cannot be learned, and few different ones may be codes of classes.

    Args:
        patients: `time` in days and `event`, or `value`, NaN where unknown; other columns are ignored.
    """
    if "value" in patients:
        return _value_doubts(patients["value"].dropna())
    if "time" not in patients:
        return []
    observed = patients[["time", "event"]].dropna()
    time, event = observed["time"].to_numpy(), observed["event"].to_numpy()
    if not len(time):
        return ["no patient has a known outcome"]
    if event.all() or not event.any():
        return [f"all {len(event)} patients {'have the event' if event.all() else 'are censored'}"]
    doubts = []
    if len(time) >= _MIN_PATIENTS and time.max() < _SHORT_DAYS:
        doubts.append(f"no patient is followed for more than {time.max():.3g} days; are the times in months or years?")
    if len(time) < _MIN_PATIENTS_OF_TAIL:
        return doubts
    share = event.mean()
    tail = event[time >= np.quantile(time, _TAIL)]
    z = (tail.mean() - share) / np.sqrt(share * (1 - share) / len(tail))
    if share > 0.5 and z >= _TAIL_Z:
        doubts.append(
            f"{tail.mean():.0%} of the patients followed longest have the event, but only {share:.0%} of all patients; "
            "are 0 and 1 exchanged? If so, name the column under the other key of the outcome (event or censored), with "
            "checked: true"
        )
    return doubts


def _value_doubts(value: pd.Series) -> list[str]:
    if not len(value):
        return ["no patient has a known outcome"]
    n_different = value.nunique()
    if n_different == 1:
        return [f"all {len(value)} patients have the value {value.iloc[0]:g}, so nothing can be learned"]
    if n_different <= _MAX_CODES and len(value) >= _MIN_PATIENTS:
        return [
            f"the {len(value)} patients have only {n_different} different values; are they codes of classes? If so, name the "
            "column under label"
        ]
    return []
