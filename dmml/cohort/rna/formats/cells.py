"""Reads the cells of an RNA table (patient ids and numbers) and refuses anything else, naming its line and column."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from dmml.cohort.tables.id_columns import read_ids
from dmml.cohort.tables.text_table import TextTable, describe_non_number
from dmml.errors import InputError

_MUTATION = re.compile(r"wt|mut|wild.?type|p\.[A-Z]\d+.*|[A-Z*]\d+(?:[A-Z*]|fs.*|del|_splice)", re.IGNORECASE)


def patient_ids(table: TextTable, frame: pd.DataFrame, position: int) -> list[str]:
    """Read the patient ids of a column, one per row.

    Raises:
        InputError: A row has no id, or an id is damaged (see `read_ids`).
    """
    column = frame.iloc[:, position]
    if column.isna().any():
        line = table.line_of(column.index[column.isna()][0])
        raise InputError(
            f"{table.path}: line {line} has no patient id in column {frame.columns[position]!r}; add it, or delete the row"
        )
    return list(read_ids(table, column.map(lambda name: str(name).strip())))


def numbers_of(table: TextTable, frame: pd.DataFrame, columns: Sequence[int]) -> np.ndarray:
    """Read columns as numbers: (rows, columns) float64, NaN where a value is missing.

    Raises:
        InputError: A value is not a number, or is infinite.
    """
    arrays = [_numbers(table, frame, i) for i in columns]
    values = np.stack(arrays, axis=1) if arrays else np.empty((len(frame), 0))
    if np.isinf(values).any():
        row, column = np.argwhere(np.isinf(values))[0]
        raise InputError(
            f"{table.path}: line {table.line_of(frame.index[row])}: infinite value in column "
            f"{frame.columns[columns[column]]!r}; correct it, or leave it empty"
        )
    return values


def _numbers(table: TextTable, frame: pd.DataFrame, position: int) -> np.ndarray:
    column = frame.iloc[:, position]
    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy(dtype=np.float64)
    numbers = pd.to_numeric(column, errors="coerce")
    is_text = numbers.isna() & column.notna()
    if is_text.any():
        row = is_text.idxmax()
        raise InputError(_not_a_number(table, table.line_of(row), frame.columns[position], str(column[row])))
    return numbers.to_numpy(dtype=np.float64)


def _not_a_number(table: TextTable, line: int, column: str, word: str) -> str:
    if word.strip() == column:
        return f"{table.path}: line {line} repeats the header ({word!r} in column {column!r}); delete the line"
    if _MUTATION.fullmatch(word.strip()):
        return f"{table.path}: line {line}, column {column!r}: {word!r} is a mutation, not RNA; give a table of RNA"
    return f"{table.path}: line {line}, column {column!r}: {word!r} {describe_non_number(word)}; correct it, or leave it empty"
