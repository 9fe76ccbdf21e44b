"""Finds the table of values in a series matrix of GEO, and its platform."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from dmml.cohort.tables.text_files import open_text
from dmml.cohort.tables.text_table import TextTable, read_rows
from dmml.errors import InputError

_TABLE = "!series_matrix_table_begin"


def is_series_matrix(table: TextTable) -> bool:
    """Whether a table begins like a GEO series matrix."""
    return table.columns[0].startswith("!")


def open_series_matrix(path: Path) -> tuple[TextTable, str]:
    """Find the header of the table inside a GEO series matrix, and the name of the platform.

    Raises:
        InputError: The file has no table.
    """
    platform = "unknown"
    with open_text(path) as text:
        for number, line in enumerate(text, start=1):
            if line.startswith("!Series_platform_id"):
                platform = line.split("\t")[1].strip().strip('"') if "\t" in line else platform
            if line.startswith(_TABLE):
                columns = [name.strip().strip('"') for name in text.readline().rstrip("\r\n").split("\t")]
                if len([name for name in columns if name]) < 2:
                    break
                return TextTable(path, "\t", number + 1, columns), platform
    raise InputError(
        f"{path}: is a GEO series matrix without a table of values; download the expression data of the series"
    )


def read_series_values(table: TextTable) -> tuple[TextTable, pd.DataFrame]:
    """Read header and rows of a series matrix, without its end marker and the tabs that spreadsheets add to lines."""
    columns = [name for name in table.columns if name]
    frame = read_rows(table, columns, names=0)
    return replace(table, columns=columns), frame[~frame.iloc[:, 0].astype(str).str.startswith("!")]
