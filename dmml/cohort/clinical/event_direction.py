"""Checks whether 1 in an event column means that the event happened or that the patient was censored.

The evidence is compared with the key of the outcome (`event` or `censored`). Words in the values count most, then a
column of vital status in the same table, then the column's name. Where this evidence contradicts the outcome, the
message names the other key, which is then accepted on the same evidence.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import pandas as pd

from dmml.cohort.clinical.event_terms import (
    CODED,
    is_about_censoring,
    is_about_life,
    meaning_of_name,
    meaning_of_text,
    meaning_of_word,
)
from dmml.cohort.clinical.outcome import Outcome, read_flags
from dmml.cohort.tables.text_table import TextTable, read_rows
from dmml.errors import InputError

OVERRULE = "add checked: true, or --checked to cohort split"
"""Advice in messages for a column name or a vital status that is misleading."""
_VITAL_STATUS = re.compile(r"(.*\.)?(vital|os|survival|overall_survival)[ _.]?status", re.IGNORECASE)
_OTHER_CODE = re.compile(r"(?:[2-9]|\d{2,})\s*:")
_MIN_PATIENTS = 10  # with fewer, the agreement of two columns cannot be judged
_MIN_SHARE = 0.8  # minimum share of agreement, or of disagreement, among the dead and among the living
_YES_OR_NO = {"", "yes", "no", "true", "false", "y", "n"}


def check_values(table: TextTable, column: pd.Series, outcome: Outcome) -> None:
    """Refuse a column whose values contradict the outcome's key in words, such as `1:DECEASED` under `censored`.

    `checked` does not override this check, because the words would be read as the opposite of their meaning.

    Args:
        table: Table of the column, for messages.
        column: Text, None where missing; its index is the one that `TextTable.line_of` takes.
        outcome: Outcome that names the column under `event` or `censored`.

    Raises:
        InputError: The words contradict the key; the message gives the line and the key to use instead.
    """
    is_event = _meaning_of_values(column)
    if is_event is None or is_event == (outcome.event is not None):
        return
    index = next(
        (i for i, value in column.dropna().items() if _meaning_of_value(value) == is_event),
        column.first_valid_index(),
    )
    reason = f"1 means {'that the event happened' if is_event else 'censored'}"
    if CODED.fullmatch(column[index].strip()) is None:
        reason = "its words say what happened"
    raise InputError(
        f"{table.path}: line {table.line_of(index)}: {column[index]!r} in {column.name!r} contradicts the key "
        f"{_key(not is_event)}, because {reason}; write {_key(is_event)}: {column.name}"
    )


def check_direction(table: TextTable, column: pd.Series, outcome: Outcome) -> None:
    """Refuse a column of 0 and 1 whose meaning is reversed according to a vital status column or its name.

    Args:
        table: The clinical table.
        column: Text of the column. If its values contain words, only `check_values` applies.
        outcome: Outcome that names the column under `event` or `censored`.

    Raises:
        InputError: The column is reversed and the outcome is not `checked`; the message gives the key to use instead.
    """
    if outcome.checked or _meaning_of_values(column) is not None:
        return
    is_event = outcome.event is not None
    comparison = _compare_with_vital_status(table, column, is_event)
    if comparison is not None:
        if not comparison.agrees:
            raise InputError(
                f"{table.path}: {column.name!r} contradicts {comparison.column!r} for {comparison.n_differing} of "
                f"{comparison.n_compared} patients; write {_key(not is_event)}: {column.name} (or {OVERRULE})"
            )
        return
    named_event = meaning_of_name(str(column.name))
    if named_event is None or named_event == is_event:
        return
    named_meaning = "that it happened" if named_event else _describe_not_happened(str(column.name))
    stated_meaning = "that it happened" if is_event else "censored"
    raise InputError(
        f"outcome: {_key(is_event)} names the column {column.name!r}, whose name says that 1 means {named_meaning}; "
        f"write {_key(named_event)}: {column.name} (if 1 really means {stated_meaning}, {OVERRULE})"
    )


def _describe_not_happened(name: str) -> str:
    """Describe the meaning of 1 in a column whose name says that the event did not happen."""
    if is_about_censoring(name):
        return "censored"
    return "alive" if is_about_life(name) else "that it did not happen"


def _key(is_event: bool) -> str:
    return "event" if is_event else "censored"


def _meaning_of_values(column: pd.Series) -> bool | None:
    """Meaning of 1 according to the words in a column: True = the event happened, False = censored, None = unclear.

    The code before the colon decides, as the portals use it (1 = happened), unless the words for 1 say that
    nothing happened, or the words for 0 say that the event happened and the words for 1 do not.
    """
    values = [value.strip() for value in column.dropna().unique()]
    if any(_OTHER_CODE.match(value) for value in values):  # `2:DECEASED`: the column must be recoded
        return None
    coded = [match for value in values if (match := CODED.fullmatch(value)) and match[2].lower() not in _YES_OR_NO]
    if coded:
        of_0, of_1 = ({meaning_of_text(match[2]) for match in coded if match[1] == code} - {None} for code in "01")
        if of_1:
            return True in of_1
        return of_0 != {True}
    # `dead` is an event under either key; `censored` and `uncensored` are understood under both.
    has_event_word = any(meaning_of_word(value) is not None and not is_about_censoring(value) for value in values)
    return True if has_event_word else None


def _meaning_of_value(value: str) -> bool | None:
    """Meaning of 1 according to a single value."""
    coded = CODED.fullmatch(value.strip())
    if coded is None:
        return True if meaning_of_word(value) is not None and not is_about_censoring(value) else None
    happened = meaning_of_text(coded[2])
    return None if happened is None else happened == (coded[1] == "1")


class _Comparison(NamedTuple):
    """An event column against a column of vital status."""

    column: str
    """Name of the column of vital status."""
    agrees: bool
    n_differing: int
    n_compared: int


def _compare_with_vital_status(table: TextTable, column: pd.Series, is_event: bool) -> _Comparison | None:
    """Find a column of vital status and compare the event column with it; None if there is nothing to compare with.

    A progression may come before death, and not every death is due to the disease, so a column is compared only where
    most of the dead have one value and most of the living have the other.
    """
    flags = read_flags(column, is_event)
    if (flags.isna() & column.notna()).any():  # some values are not 0 or 1, and `read_outcome` deals with them
        return None
    event = flags if is_event else 1.0 - flags
    for name in table.columns:
        if name == column.name or not _VITAL_STATUS.fullmatch(name) or table.columns.count(name) > 1:
            continue
        words = read_rows(table, [name])[name].reindex(event.index)
        dead = words.map(_is_dead, na_action="ignore")
        both_known = event.notna() & dead.notna()
        differs = (event != dead.astype(float))[both_known]
        if len(differs) < _MIN_PATIENTS:
            continue
        shares = differs.groupby(dead[both_known].astype(bool)).mean()  # among the dead, and among the living
        agrees = bool((shares <= 1 - _MIN_SHARE).all())
        if agrees or (shares >= _MIN_SHARE).all():
            return _Comparison(name, agrees, int(differs.sum()), len(differs))
    return None


def _is_dead(word: str) -> bool | None:
    """Whether a vital status means that the patient died; None if the word is unknown."""
    coded = CODED.fullmatch(word.strip())
    return meaning_of_word(coded[2] if coded else word)
