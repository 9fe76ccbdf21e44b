"""Reads clinical covariates: one value per patient and column, either a number or a word."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import pandas as pd

from dmml.cohort.clinical.ordered_levels import is_not_assessed
from dmml.cohort.clinical.outcome import Outcome
from dmml.cohort.clinical.stated_covariates import without_decimals
from dmml.cohort.tables.text_table import TextTable, describe_non_number
from dmml.errors import InputError

_MIN_SHARE_OF_NUMBERS = 0.8  # from this share of numbers on, the words of a column are regarded as mistakes
_COMMA = re.compile(r"[+-]?\d+,\d+")


def check_covariates(path: object, outcome: Outcome, covariates: Sequence[str]) -> None:
    """Refuse a covariate that is a column of the outcome, which a clinical model would then know.

    Raises:
        InputError: A covariate is a column of the outcome.
    """
    if shared := next((name for name in covariates if name in outcome.columns), None):
        raise InputError(f"{path}: {shared!r} is a column of the outcome and a covariate; leave it out of covariates")


def read_covariates(
    table: TextTable, rows: pd.DataFrame, patient_of_row: pd.Series, stated: Mapping[str, tuple[str, ...] | None]
) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Take the first known value of each patient.

    A column becomes numeric if all values are numbers, apart from words such as `unknown`; otherwise it is text, unless
    most values are numbers, in which case the words are refused.

    Args:
        table: Table of the rows, for messages.
        rows: Text columns, None where missing; their index is the one that `TextTable.line_of` takes.
        patient_of_row: The patient of each row.
        stated: {covariate: levels}; see `stated_covariates`. Where levels are stated, numbers stay text.

    Returns:
        (patients × covariates), float64 or text; and {covariate: patients whose rows hold several values}.

    Raises:
        InputError: A word is among numbers, a number is infinite, numbers have decimal commas, or a value is not one of
            the stated levels.
    """
    columns = list(stated)
    if not columns:
        return pd.DataFrame(index=patient_of_row.unique()), {}
    rows = rows.assign(**{column: _without_unknown(rows[column]) for column in columns})
    grouped = rows.groupby(patient_of_row, sort=False)[columns]
    first, several = grouped.first(), grouped.nunique() > 1
    for column in columns:
        levels = stated[column]
        if levels is None:
            first[column] = _as_numbers(table, rows, first[column])
        else:
            first[column] = _as_levels(table, rows, first[column], levels)
    conflicts = {column: [str(name) for name in several.index[several[column]]] for column in columns}
    return first, {column: patients for column, patients in conflicts.items() if patients}


def _as_numbers(table: TextTable, rows: pd.DataFrame, values: pd.Series) -> pd.Series:
    """Convert a column to numbers if all of its values are numbers; refuse it if all but a few are."""
    numbers = pd.to_numeric(values, errors="coerce")
    n_values, n_numbers = int(values.notna().sum()), int(numbers.notna().sum())
    if n_numbers == n_values and not np.isinf(numbers).any():
        return numbers.astype(float)
    words = values[values.notna() & (numbers.isna() | np.isinf(numbers))]
    with_comma = words[words.map(lambda word: bool(_COMMA.fullmatch(word)))]
    if n_numbers >= _MIN_SHARE_OF_NUMBERS * n_values:
        problem = f"is not a number, but {n_numbers} other values are; correct it, leave it empty, or state levels"
        raise _error_of_value(table, rows, values.name, words.iloc[0], problem)
    if n_numbers + len(with_comma) >= _MIN_SHARE_OF_NUMBERS * n_values:
        word = with_comma.iloc[0]
        raise _error_of_value(
            table, rows, values.name, word, f"{describe_non_number(word)}; correct it, or leave it empty"
        )
    return values


def _as_levels(table: TextTable, rows: pd.DataFrame, values: pd.Series, levels: tuple[str, ...]) -> pd.Series:
    """Replace values by the stated spelling of their levels: `2.0` becomes `2`, `stage ii` becomes `Stage II`."""
    if not levels:
        return values.map(without_decimals, na_action="ignore")
    spelled = {without_decimals(level).lower(): level for level in levels}
    for word in values.dropna().unique():
        if without_decimals(word).lower() not in spelled and not _is_unknown(word):
            problem = f"is not one of its levels ({', '.join(levels)}); correct it, or add it to levels"
            raise _error_of_value(table, rows, values.name, word, problem)
    return values.map(lambda word: spelled.get(without_decimals(word).lower()), na_action="ignore")


def _without_unknown(column: pd.Series) -> pd.Series:
    """Drop words such as `unknown` from a column of numbers; in a column of words only, `unknown` may be a level."""
    words = column[column.notna() & pd.to_numeric(column, errors="coerce").isna()].unique()
    if len(words) and len(words) < column.nunique() and all(map(_is_unknown, words)):
        return column.where(~column.isin(words), None)
    return column


def _is_unknown(word: str) -> bool:
    """Whether a word means that the value is unknown: `unknown`, `Stage X`, `TX`."""
    return word.lower() == "none" or is_not_assessed(word)


def _error_of_value(table: TextTable, rows: pd.DataFrame, column: Hashable, word: str, problem: str) -> InputError:
    line = table.line_of(rows.index[rows[column] == word][0])
    return InputError(f"{table.path}: line {line}: {word!r} in {column!r} (covariates) {problem}")
