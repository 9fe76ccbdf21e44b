"""Reads vectors from tables: CSV and TSV (also .gz and .zip), Parquet, and workbooks that pandas can read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dmml.cohort.tables.id_columns import read_ids
from dmml.cohort.tables.text_table import MISSING, TextTable, open_table, read_rows, require_column
from dmml.errors import InputError, reason_of
from dmml.slides.vectors.columns import choose_columns, unlike_the_others, way_out
from dmml.slides.vectors.file_vectors import FileVectors, listed

TEXT, WORKBOOKS = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", ".csv.zip", ".tsv.zip"), (".xlsx", ".xls")
SUFFIXES = (*TEXT, ".parquet", *WORKBOOKS)
_ID_COLUMNS = ("slide_id", "patient_id", "slide", "case_id", "patient", "id")


@dataclass(frozen=True)
class TableOptions:
    """How the columns of a table are read."""

    id_column: str | None = None
    """None means the first of `slide_id`, `patient_id`, … that the table has"""
    columns: Sequence[str] = ()
    """Globs of the columns to read; all if empty"""
    drop: Sequence[str] = ()
    """Globs of the columns to leave out"""
    missing: Sequence[str] = ()
    """Values that mean that nothing was measured, in addition to empty cells and NA"""


def read_table(path: Path, options: TableOptions) -> FileVectors:
    """Read the vectors of a table with one row per vector and one column per feature.

    Raises:
        InputError: The table cannot be read, lacks the column of ids, or holds columns that are not numbers or do not
            look like features; the message names them, and the options that help.
    """
    table, frame = _open(path)
    id_column = _id_column(table, options.id_column)
    others = [name for name in table.columns if name != id_column]
    selected = choose_columns(path, others, options.columns, options.drop)
    columns = [id_column, *selected]
    rows = read_rows(table, columns, names=0) if frame is None else frame[columns].reset_index(drop=True)
    values = _numbers(table, rows, selected, options.missing)
    ids = _ids(table, rows[id_column])
    notes = [f"columns read: {listed(selected)}"]
    if odd := unlike_the_others(selected):
        notes.append(
            f"check {listed(odd)}, whose names differ from those of the other columns; --drop leaves columns out"
        )
    empty = np.isnan(values).all(axis=1)
    if empty.any():
        notes.append(f"{int(empty.sum())} rows without any value were left out ({listed(_where(ids, empty))})")
    return FileVectors(path, _where(ids, ~empty), values[~empty], selected, notes=notes)


def _where(ids: Sequence[str], rows: np.ndarray) -> list[str]:
    return [name for name, is_selected in zip(ids, rows, strict=True) if is_selected]


def _open(path: Path) -> tuple[TextTable, pd.DataFrame | None]:
    """Read a table's columns, and its rows; None for a text table, whose rows are read once the columns are selected."""
    suffix = path.suffix.lower()
    if suffix != ".parquet" and suffix not in WORKBOOKS:
        return open_table(path), None
    try:
        frame = pd.read_parquet(path) if suffix == ".parquet" else pd.read_excel(path)
    except ImportError as error:
        raise InputError(
            f"{path}: reading a workbook needs a package: pip install openpyxl; or save the sheet as CSV in UTF-8"
        ) from error
    except Exception as error:  # pyarrow, zipfile and openpyxl raise many types for damaged files
        raise InputError(f"{path}: cannot be read as a table ({reason_of(error)}); save it again, or as CSV") from error
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    frame.columns = [str(name).strip() for name in frame.columns]
    return TextTable(path, "", 1, list(frame.columns)), frame


def _id_column(table: TextTable, stated: str | None) -> str:
    if stated is not None:
        return require_column(table, stated, "--id")
    by_plain = {name.casefold(): name for name in reversed(table.columns)}
    id_column = next((by_plain[name] for name in _ID_COLUMNS if name in by_plain), None)
    if id_column is None:
        raise InputError(
            f"{table.path}: nothing shows which column holds the ids of slides or patients; name it with --id, from: "
            f"{listed(table.columns, 12)}"
        )
    return id_column


def _ids(table: TextTable, column: pd.Series) -> list[str]:
    text = column.map(lambda name: None if pd.isna(name) else str(name).strip() or None).astype(object)
    if (lacking := text.isna()).any():
        line = table.line_of(text.index[lacking][0])
        raise InputError(f"{table.path}: line {line} has no {column.name!r}; fill it in, or remove the row")
    return list(read_ids(table, text))


def _numbers(table: TextTable, rows: pd.DataFrame, columns: list[str], missing: Sequence[str]) -> np.ndarray:
    """Convert the rows to (rows, D) float64, NaN where a value is missing."""
    words, numbers = {word.strip().lower() for word in missing} | MISSING, [_number(word) for word in missing]
    not_numbers: dict[str, str] = {}
    values = np.empty((len(rows), len(columns)))
    for i, name in enumerate(columns):
        column = rows[name]
        if column.dtype.kind in "fiu":
            values[:, i] = column
            continue
        text = column.map(lambda value: "" if pd.isna(value) else str(value).strip())
        with_nan = text.where(~text.str.lower().isin(words), "nan")
        numbers_read = pd.to_numeric(with_nan, errors="coerce")
        bad = text[numbers_read.isna() & (with_nan != "nan")]
        if len(bad) or column.dtype.kind == "b":
            not_numbers[name] = str(bad.iloc[0]) if len(bad) else str(text.iloc[0])
        values[:, i] = numbers_read
    if not_numbers:
        examples = ", ".join(f"{name!r} ({value!r})" for name, value in list(not_numbers.items())[:4])
        more = f", … ({len(not_numbers)} in all)" if len(not_numbers) > 4 else ""
        raise InputError(
            f"{table.path}: columns that do not hold numbers: {examples}{more}; {way_out(columns, list(not_numbers))}, or name "
            "a word for a missing value with --missing"
        )
    for number in numbers:
        if number is not None:
            values[values == number] = np.nan
    if (infinite := np.isinf(values)).any():
        row, column_index = np.argwhere(infinite)[0]
        raise InputError(
            f"{table.path}: line {table.line_of(rows.index[row])} has an infinite {columns[column_index]!r}; correct it, or give "
            "--missing inf if it means that nothing was measured"
        )
    return values


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None
