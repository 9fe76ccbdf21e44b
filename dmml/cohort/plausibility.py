"""Whether an outcome can be what its columns are said to be: direction of the event, unit of the time."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from dmml.cohort.outcome import Outcome
from dmml.cohort.tables import TextTable, read_rows
from dmml.errors import InputError

_SAYS_CENSORED = re.compile(r"cens", re.IGNORECASE)
_SAYS_ALIVE = re.compile(r"(^|[^a-z])(alive|living)([^a-z]|$)", re.IGNORECASE)
_SAYS_EVENT = re.compile(r"event|death|dead|died|deceased|vital|relapse|progress|^(os|pfs|dss|pfi|dfs|rfs|dfi)$", re.I)
_VITAL = re.compile(r"(.*\.)?(vital|os|survival|overall_survival)[ _.]?status", re.IGNORECASE)
_DEAD = {"dead", "deceased", "died", "1:deceased", "1:dead"}
_ALIVE = {"alive", "living", "0:living", "0:alive"}
_FEWEST = 10  # patients before a disagreement of two columns, or a short follow-up, says something
_DISAGREEING = 0.8
_LONGEST_DAYS = 110 * 365.25  # nobody is followed longer
_SHORT_DAYS = 400  # a cohort in which nobody is followed longer may be in months
_FEWEST_TIMES = 40
_TAIL, _TAIL_Z = 0.9, 2.0  # the tenth that was followed longest; standard errors by which its events exceed the rest's


def refuse_direction(outcome: Outcome) -> None:
    """Refuse an event column whose name says that 1 means censored, or the other way round.

    Raises:
        InputError: The name contradicts the option, and the outcome does not say `checked: true`.
    """
    if outcome.checked:
        return
    if outcome.event and _SAYS_CENSORED.search(outcome.event):
        raise InputError(
            f"outcome: event is the column {outcome.event!r}, whose name says that 1 means censored; "
            f"write censored: {outcome.event} (if 1 really means that it happened, add checked: true)"
        )
    if outcome.event and _SAYS_ALIVE.search(outcome.event) and not _SAYS_EVENT.search(outcome.event):
        raise InputError(
            f"outcome: event is the column {outcome.event!r}, whose name says that 1 means alive; "
            f"write censored: {outcome.event} (if 1 really means that it happened, add checked: true)"
        )
    if outcome.censored and _SAYS_EVENT.search(outcome.censored) and not _SAYS_CENSORED.search(outcome.censored):
        raise InputError(
            f"outcome: censored is the column {outcome.censored!r}, whose name says that 1 means it happened; "
            f"write event: {outcome.censored} (if 1 really means censored, add checked: true)"
        )


def refuse_contradiction(table: TextTable, outcome: Outcome, event: pd.Series) -> None:
    """Refuse an event that is the opposite of a column of vital status beside it.

    A progression may come before death and need not agree with it; four fifths of the patients at odds is a mistake.

    Args:
        table: The clinical table.
        outcome: Its columns.
        event: 0/1 a row, NaN where unknown; index as `read_rows` gives it.

    Raises:
        InputError: Most rows disagree, and the outcome does not say `checked: true`.
    """
    own = outcome.event or outcome.censored
    named = [
        name for name in table.columns if _VITAL.fullmatch(name) and name != own and table.columns.count(name) == 1
    ]
    for column in [] if outcome.checked else named:
        words = read_rows(table, [column])[column].reindex(event.index)
        words = words.map(lambda word: word.lower() if isinstance(word, str) else "")
        dead = words.isin(_DEAD)
        both = event.notna() & (dead | words.isin(_ALIVE))
        apart = int((event[both] != dead[both].astype(float)).sum())
        if both.sum() >= _FEWEST and apart >= _DISAGREEING * both.sum():
            other = f"censored: {outcome.event}" if outcome.event else f"event: {outcome.censored}"
            raise InputError(
                f"{table.path}: {own!r} says the opposite of {column!r} for {apart} of {int(both.sum())} patients; "
                f"name it as outcome: {{…, {other}}} (or add checked: true)"
            )


def refuse_unit(path: object, outcome: Outcome, days: pd.Series) -> None:
    """Refuse times that no patient can have.

    Raises:
        InputError: The longest time is above 110 years.
    """
    longest = days.max()
    if longest > _LONGEST_DAYS:
        raise InputError(
            f"{path}: the longest time in {outcome.time!r} is {longest / 365.25:,.0f} years if it counts {outcome.unit}; "
            f"state the true unit (days, months or years) in outcome"
        )


def outcome_doubts(patients: pd.DataFrame) -> list[str]:
    """What makes a survival outcome doubtful, in sentences; none where nothing does.

    Follow-up ends most patients' times, so those who were followed longest are mostly censored. Where the tenth that
    was followed longest holds more events than the others, and events are the majority, 0 and 1 may be exchanged.

    Args:
        patients: `time` in days and `event`, NaN where unknown; other columns are not looked at.
    """
    if "time" not in patients:
        return []
    known = patients[["time", "event"]].dropna()
    time, event = known["time"].to_numpy(), known["event"].to_numpy()
    if not len(time):
        return ["no patient has a known outcome"]
    if event.all() or not event.any():
        return [f"all {len(event)} patients {'have the event' if event.all() else 'are censored'}"]
    doubts = []
    if len(time) >= _FEWEST and time.max() < _SHORT_DAYS:
        doubts.append(f"nobody is followed longer than {time.max():.3g} days; are the times in months or years?")
    if len(time) < _FEWEST_TIMES:
        return doubts
    share = event.mean()
    tail = event[time >= np.quantile(time, _TAIL)]
    z = (tail.mean() - share) / np.sqrt(share * (1 - share) / len(tail))
    if share > 0.5 and z >= _TAIL_Z:
        doubts.append(
            f"{tail.mean():.0%} of those followed longest have the event, {share:.0%} of all; "
            "are 0 and 1 exchanged (outcome: event or censored)?"
        )
    return doubts
