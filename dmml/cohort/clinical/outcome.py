"""Parses and reads outcomes: a time in days with an event (1 = happened), a label, or a value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dmml.cohort.clinical.event_terms import CODED, meaning_of_word
from dmml.cohort.tables.text_table import TextTable, describe_non_number, require_column
from dmml.errors import InputError

DAYS = {"days": 1.0, "months": 30.4375, "years": 365.25}
_YES = {"1", "1.0", "true", "yes", "y"}
_NO = {"0", "0.0", "false", "no", "n"}


@dataclass(frozen=True)
class Outcome:
    """Columns that hold the outcome: `time` with `event` or `censored`, or `label`, or `value`."""

    time: str | None = None
    event: str | None = None
    censored: str | None = None
    unit: str = "days"
    label: str | None = None
    value: str | None = None
    checked: bool = False
    """Whether the user confirms the key (`event` or `censored`) although a name or a vital status contradicts it."""

    @property
    def columns(self) -> list[str]:
        """Names of the columns of the outcome."""
        return [name for name in (self.time, self.event, self.censored, self.label, self.value) if name is not None]


def parse_outcome(spec: Mapping[str, object]) -> Outcome:
    """Parse `{time, event, unit}`, `{time, censored, unit}`, `{label}` or `{value}`; the first two may contain `checked`.

    Without `unit`, times are in days; if the name of the time column contains month or year, the unit must be given.

    Raises:
        InputError: The keys or values do not describe an outcome; the message says what is wrong.
    """
    if not isinstance(spec, Mapping):
        raise InputError(f"outcome: {spec!r} names no columns; give {{time, event, unit}}, {{label}} or {{value}}")
    unknown = sorted(set(spec) - {"time", "event", "censored", "unit", "label", "value", "checked"})
    if unknown:
        raise InputError(
            f"outcome: unknown key {unknown[0]!r}; its keys are time, event or censored, and unit; or label; or value"
        )
    checked = spec.get("checked", False)
    if not isinstance(checked, bool):
        raise InputError(f"outcome: checked is {checked!r}; write true or false, without quotes")
    names: dict[str, str] = {}
    for key, value in spec.items():
        if key == "checked" or value is None:
            continue
        if not isinstance(value, str):
            raise InputError(
                f"outcome: {key} is {value!r}, but must be the name of a column; put quotes around a number"
            )
        names[key] = value
    if single := next((key for key in ("label", "value") if key in names), None):
        return _single_column(single, names)
    if "time" not in names or ("event" in names) == ("censored" in names):
        raise InputError(
            "outcome: give {time, event} (1 = happened), {time, censored} (1 = censored), {label} or {value}"
        )
    unit = names.get("unit")
    unit_in_name = next((word for word in ("month", "year") if word in names["time"].lower()), None)
    if unit is None and unit_in_name:
        raise InputError(
            f"outcome: the name of the time column {names['time']!r} suggests {unit_in_name}s; state unit: {unit_in_name}s "
            "(or unit: days)"
        )
    if unit not in (None, *DAYS):
        raise InputError(f"outcome: unknown unit {unit!r}; use one of {', '.join(DAYS)}")
    return Outcome(
        time=names["time"],
        event=names.get("event"),
        censored=names.get("censored"),
        unit=unit or "days",
        checked=checked,
    )


def _single_column(key: str, names: Mapping[str, str]) -> Outcome:
    """Make the outcome of one column, a label or a value."""
    if len(names) > 1:
        other = sorted(set(names) - {key})[0]
        raise InputError(f"outcome: has both {key} and {other}; give a label, or a value, or a time and an event")
    return Outcome(label=names.get("label"), value=names.get("value"))


def read_outcome(table: TextTable, rows: pd.DataFrame, outcome: Outcome) -> pd.DataFrame:
    """Read the outcome of each row.

    The outcome is unknown if the time or the event is missing. A time of 0 is kept, since it lies in the first
    interval.

    Args:
        table: Table of the rows, for messages.
        rows: Text columns, None where missing; their index is the one that `TextTable.line_of` takes.
        outcome: Columns of the outcome.

    Returns:
        `time` (float64 days) and `event` (float64 0/1), or `label` (str), or `value` (float64); NaN or None where
        unknown.

    Raises:
        InputError: A time is negative, a time or a value is not a number, an event is not 0 or 1 (the message gives the
            line), or a label has two spellings.
    """
    for key, column in (
        ("time", outcome.time),
        ("event", outcome.event),
        ("censored", outcome.censored),
        ("label", outcome.label),
        ("value", outcome.value),
    ):
        if column is not None:
            require_column(table, column, f"outcome: {key}")
    if outcome.label is not None:
        check_label_spellings(table.path, rows[outcome.label])
        return pd.DataFrame({"label": rows[outcome.label].astype(object)})
    if outcome.value is not None:
        return pd.DataFrame({"value": _numbers(table, rows[outcome.value])})
    time = _numbers(table, rows[outcome.time]) * DAYS[outcome.unit]
    if (time < 0).any():
        index = time.index[time < 0][0]
        raise InputError(
            f"{table.path}: line {table.line_of(index)}: negative time {rows[outcome.time][index]} in {outcome.time!r}; correct "
            "it, or leave it empty"
        )
    column = outcome.event or outcome.censored
    flag = read_flags(rows[column], outcome.event is not None)
    _check_flags(table, rows[column], flag, outcome)
    event = flag if outcome.event else 1.0 - flag
    both_known = time.notna() & event.notna()
    return pd.DataFrame({"time": time.where(both_known), "event": event.where(both_known)})


def _check_flags(table: TextTable, column: pd.Series, flag: pd.Series, outcome: Outcome) -> None:
    """Refuse values that cannot be read as 0 or 1."""
    is_unreadable = flag.isna() & column.notna()
    if not is_unreadable.any():
        return
    index = is_unreadable.idxmax()
    of_1, of_0 = ("it happened", "the patient was censored")[:: 1 if outcome.event else -1]
    remedy = f"write 1 where {of_1} and 0 where {of_0}, or leave it empty"
    if set(column.dropna().str.split(":").str[0]) <= {"1", "2", "1.0", "2.0"}:
        remedy = f"a column of 1 and 2 has no 0: write 1 where {of_1} and 0 where {of_0} (in R's survival, 2 means that it happened)"
    raise InputError(
        f"{table.path}: line {table.line_of(index)}: {column[index]!r} in {column.name!r} is not 0 or 1 "
        f"({'1 = happened' if outcome.event else '1 = censored'}); {remedy}"
    )


def check_label_spellings(source: object, column: pd.Series) -> None:
    """Refuse labels that differ only in case, in spaces, or as `2` and `2.0` do, since they are spellings of one class.

    Args:
        source: Name of the table in the message.
        column: The labels; its name is that of the column.

    Raises:
        InputError: Two labels are spellings of one class.
    """
    first_spelling: dict[str, str] = {}
    for label in column.dropna().unique():
        first = first_spelling.setdefault(re.sub(r"(?<=\d)\.0+$", "", " ".join(label.split())).casefold(), label)
        if first != label:
            raise InputError(
                f"{source}: {first!r} and {label!r} in {column.name!r} are spellings of one label; write it in one way only"
            )


def _numbers(table: TextTable, column: pd.Series) -> pd.Series:
    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    is_unreadable = (numbers.isna() & column.notna()) | np.isinf(numbers)
    if is_unreadable.any():
        index = is_unreadable.idxmax()
        raise InputError(
            f"{table.path}: line {table.line_of(index)}: {column[index]!r} in {column.name!r} "
            f"{describe_non_number(column[index])}; correct it, or leave it empty"
        )
    return numbers


def read_flags(column: pd.Series, is_event: bool) -> pd.Series:
    """Read the values of an event column (or of a censoring column) as 1 and 0: (rows,) float64, NaN for other values.

    `dead` is 1 and `censored` is 0 in a column of events, and the reverse in a column of censoring.
    """
    return column.map(lambda word: _flag(word, is_event), na_action="ignore").astype(float)


def _flag(word: str, is_event: bool) -> float:
    word = word.strip()
    coded = CODED.fullmatch(word)
    word = (coded[1] if coded else word).lower()
    if word in _YES or word in _NO:
        return float(word in _YES)
    happened = meaning_of_word(word)
    return np.nan if happened is None else float(happened == is_event)
