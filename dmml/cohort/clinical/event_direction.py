"""Checks whether 1 in an event column means that the event happened or that the patient was censored.

The evidence is compared with the key of the outcome (`event` or `censored`). Words in the values count most, then a
column of vital status in the same table, then the column's name. Where this evidence contradicts the outcome, the
message names the other key, which is then accepted on the same evidence.
"""

from __future__ import annotations

import re

import pandas as pd

from dmml.cohort.clinical.event_terms import CODED, is_about_censoring, is_about_life, name_says, plain_word, word_says
from dmml.cohort.clinical.outcome import Outcome, read_flags
from dmml.cohort.tables.text_table import TextTable, read_rows
from dmml.errors import InputError

OVERRULE = "add checked: true, or --checked to cohort split"
"""Advice in messages for a column name or a vital status that is misleading."""
_VITAL_STATUS = re.compile(r"(.*\.)?(vital|os|survival|overall_survival)[ _.]?status", re.IGNORECASE)
_OTHER_CODE = re.compile(r"(?:[2-9]|\d{2,})\s*:")
_MIN_PATIENTS = 10  # with fewer, the agreement of two columns cannot be judged
_MOST = 0.8
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
    said = _values_say(column)
    if said is None or said == (outcome.event is not None):
        return
    index = next((i for i, value in column.dropna().items() if _value_says(value) == said), column.first_valid_index())
    meaning = "1 means that it happened" if said else "1 means censored"
    if CODED.fullmatch(column[index].strip()) is None:
        meaning = "the words say what happened"
    raise InputError(
        f"{table.path}: line {table.line_of(index)}: {column[index]!r} in {column.name!r} says the opposite of "
        f"{_key(not said)}, since {meaning}; write {_key(said)}: {column.name}"
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
    if outcome.checked or _values_say(column) is not None:
        return
    as_named = outcome.event is not None
    agreement = _vital_status_says(table, column, as_named)
    if agreement is not None:
        vital, agrees, apart, both = agreement
        if not agrees:
            raise InputError(
                f"{table.path}: {column.name!r} says the opposite of {vital!r} for {apart} of {both} patients; "
                f"write {_key(not as_named)}: {column.name} (or {OVERRULE})"
            )
        return
    said = name_says(str(column.name))
    if said is None or said == as_named:
        return
    meaning = "it happened" if said else _not_happened(str(column.name))
    really = "it happened" if as_named else "censored"
    raise InputError(
        f"outcome: {_key(as_named)} is the column {column.name!r}, whose name says that 1 means {meaning}; "
        f"write {_key(said)}: {column.name} (if 1 really means {really}, {OVERRULE})"
    )


def _not_happened(name: str) -> str:
    """Describe the meaning of 1 in a column whose name says that the event did not happen."""
    if is_about_censoring(name):
        return "censored"
    return "alive" if is_about_life(name) else "it did not happen"


def _key(happened: bool) -> str:
    return "event" if happened else "censored"


def _values_say(column: pd.Series) -> bool | None:
    """Meaning of 1 according to the words in a column: True = the event happened, False = censored, None = unclear.

    The code before the colon decides, as the portals use it (1 = happened), unless the words for 1 say that
    nothing happened, or the words for 0 say that the event happened and the words for 1 do not.
    """
    values = [value.strip() for value in column.dropna().unique()]
    if any(_OTHER_CODE.match(value) for value in values):  # `2:DECEASED`: the column must be recoded
        return None
    coded = [match for value in values if (match := CODED.fullmatch(value)) and match[2].lower() not in _YES_OR_NO]
    if coded:
        of_0, of_1 = ({word_says(match[2]) for match in coded if match[1] == code} - {None} for code in "01")
        if of_1:
            return True in of_1
        return of_0 != {True}
    # `dead` is an event under either key; `censored` and `uncensored` are understood under both.
    happened = any(plain_word(value) is not None and not is_about_censoring(value) for value in values)
    return True if happened else None


def _value_says(value: str) -> bool | None:
    """Meaning of 1 according to a single value."""
    coded = CODED.fullmatch(value.strip())
    if coded is None:
        return True if plain_word(value) is not None and not is_about_censoring(value) else None
    said = word_says(coded[2])
    return None if said is None else said == (coded[1] == "1")


def _vital_status_says(table: TextTable, column: pd.Series, is_event: bool) -> tuple[str, bool, int, int] | None:
    """Find a column of vital status and compare the event column with it.

    A progression may come before death, and not every death is due to the disease, so a column is compared only where
    most of the dead have one value and most of the living have the other.

    Returns:
        Name of the vital status column, whether it agrees, the number of patients who disagree, and the number
        compared; None if there is nothing to compare with.
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
        known = event.notna() & dead.notna()
        apart = (event != dead.astype(float))[known]
        if len(apart) < _MIN_PATIENTS:
            continue
        shares = apart.groupby(dead[known].astype(bool)).mean()  # among the dead, and among the living
        if (shares >= _MOST).all() or (shares <= 1 - _MOST).all():
            return name, bool((shares <= 1 - _MOST).all()), int(apart.sum()), len(apart)
    return None


def _is_dead(word: str) -> bool | None:
    """Whether a vital status means that the patient died; None if the word is unknown."""
    coded = CODED.fullmatch(word.strip())
    return plain_word(coded[2] if coded else word)
