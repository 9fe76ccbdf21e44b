"""Reads the header and the rows of text tables: CSV or TSV, with comments, quotes and missing values.

The header is read first (`open_table`), the rows later (`read_rows`).
"""

from __future__ import annotations

import csv
import difflib
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dmml.cohort.tables.field_counts import FieldCounter
from dmml.cohort.tables.file_sniffing import describe_non_table
from dmml.cohort.tables.separators import separator_of, split_line
from dmml.cohort.tables.text_files import open_text
from dmml.errors import InputError

# Words for unknown values in tables of GDC, cBioPortal, Xena, R and pandas, in lower case.
# "unknown" and "none" are left out, since they may be classes in a label column.
MISSING = frozenset(
    "|na|n/a|nan|null|<na>|#n/a|--|'--|.|?|not reported|not available|not applicable"
    "|[not available]|[not applicable]|[not evaluated]|[unknown]|[discrepancy]|[completed]|[pending]".split("|")
)

_SEPARATOR_LINE = re.compile(r'"?sep=.?"?', re.IGNORECASE)  # a line that names the separator for Excel
_OPEN_QUOTE = re.compile(r'(?:^|[\t;,| ])"[^"]*$')
_MAX_HEADER_LINES = 20
_LINES_TO_COMPARE = 5  # rows that are compared with the header to find the separator


@dataclass
class TextTable:
    """A text table whose header has been read."""

    path: Path
    separator: str
    header_line: int
    """Line number of the header in the file, from 1."""
    columns: list[str]

    def line_of(self, index: int) -> int:
        """Line number in the file of the row that has this index in a frame from `read_rows`."""
        return self.header_line + 1 + index


def open_table(path: str | Path) -> TextTable:
    """Read a table's header: its separator (see `separator_of`), its line and its column names.

    Lines before the header that start with `#`, and Excel's `sep=;`, are skipped. A header with one name fewer than the
    rows have fields (as written by R with row names) gets an empty first name.

    Raises:
        InputError: The file does not exist or is not a text table, or its header cannot be read.
    """
    path = Path(path)
    with open_text(path) as text:
        number, line = 0, ""
        for number, line in enumerate(text, start=1):  # noqa: B007 - the header's number is used below
            if line.strip() and not line.startswith("#") and not _SEPARATOR_LINE.fullmatch(line.strip()):
                break
        else:
            raise InputError(f"{path}: is empty; a table needs a header line")
        if "\0" in line:
            raise InputError(
                f"{path}: contains NUL characters, as UTF-16 without a byte order mark does; save it as CSV in UTF-8"
            )
        line, more = _complete_header(line, text)
        if _OPEN_QUOTE.search(line) and line.count('"') % 2:
            raise InputError(f"{path}: line {number}: a quote in the header is never closed; close it or remove it")
        number += more
        if non_table := describe_non_table(line):
            raise InputError(f"{path}: {non_table}")
        if line.endswith("\r"):
            raise InputError(f"{path}: its lines end with CR alone, as on an old Mac; save it with LF or CRLF")
        following = list(itertools.islice(text, _LINES_TO_COMPARE))
        try:
            separator = separator_of(line, following)
            columns = [name.strip() for name in split_line(line, separator)]
            rows = [split_line(row, separator) for row in following if row.strip()]
        except csv.Error as error:
            raise InputError(f"{path}: its header cannot be read ({error}); check its quotes and line ends") from None
    if rows and all(len(row) == len(columns) + 1 for row in rows) and any(row[-1].strip() for row in rows):
        columns = ["", *columns]
    return TextTable(path, separator, number, columns)


def _complete_header(line: str, text: Iterator[str]) -> tuple[str, int]:
    """Join a header with the lines on which a quoted name continues (with spaces for line ends); count those lines."""
    more = 0
    while _OPEN_QUOTE.search(line) and line.count('"') % 2 and more < _MAX_HEADER_LINES and (further := next(text, "")):
        line, more = line.rstrip("\r\n") + " " + further, more + 1
    return line, more


def require_column(table: TextTable, column: str, option: str) -> str:
    """Check that the table has a column exactly once, and return its name.

    Args:
        table: The table.
        column: Name of the column.
        option: Option that names the column, for the message.

    Raises:
        InputError: The column is missing (the message lists the existing ones, the most similar first) or repeated.
    """
    count = table.columns.count(column)
    if count == 1:
        return column
    if count > 1:
        raise InputError(f"{table.path}: {count} columns are called {column!r} ({option}); rename all but one")
    if comment_line := _line_of_comment(table, column):
        raise InputError(
            f"{table.path}: line {comment_line} names {column!r} ({option}), but begins with '#', so it is read as a "
            "comment; remove the '#'"
        )
    similar = difflib.get_close_matches(column, table.columns, n=3, cutoff=0.4)
    ordered = [*similar, *(name for name in table.columns if name and name not in similar)]
    columns = ", ".join(ordered[:12]) + (f", … ({len(ordered)} in all)" if len(ordered) > 12 else "")
    raise InputError(f"{table.path}: no column {column!r} ({option}); name one of its columns: {columns}")


def _line_of_comment(table: TextTable, column: str) -> int | None:
    """Line number of a comment above the header that has the column among its fields; None if there is none."""
    if table.header_line < 2:
        return None
    with open_text(table.path) as text:
        for number, line in enumerate(itertools.islice(text, table.header_line - 1), start=1):
            names = [name.strip(' "\r\n') for name in line.lstrip("# ").split(table.separator)]
            if line.startswith("#") and column in names:
                return number
    return None


def read_rows(table: TextTable, columns: Sequence[str] | None = None, names: int | None = None) -> pd.DataFrame:
    """Read columns of a table, without empty lines; the index preserves line numbers (see `TextTable.line_of`).

    Args:
        table: Table from `open_table`.
        columns: Names of the columns to read; None for all, in which case names may repeat.
        names: With None, every column is read as stripped text, with None for missing values. With a position among the
            columns read, only that column stays text (keeping leading zeros), and the others may become numbers.

    Raises:
        InputError: A line has another number of fields than the header, or the file cannot be read.
    """
    position_of = {name: i for i, name in enumerate(table.columns)}
    positions = list(range(len(table.columns))) if columns is None else [position_of[name] for name in columns]
    options: dict[str, Any] = {"dtype": str, "keep_default_na": False}
    if names is not None:
        options = {"dtype": {positions[names]: str}, "na_values": _spellings_of_missing(), "low_memory": False}
    with open_text(table.path) as stream:
        for _ in range(table.header_line):
            stream.readline()
        try:
            frame = pd.read_csv(
                FieldCounter(stream, table, complete_lines=names is not None),
                sep=table.separator,
                header=None,
                names=range(len(table.columns)),
                usecols=positions,
                index_col=False,
                skip_blank_lines=False,
                **options,
            )
        except pd.errors.EmptyDataError:
            frame = pd.DataFrame(columns=positions, dtype=object)
        except pd.errors.ParserError as error:
            raise InputError(
                f"{table.path}: cannot be read as a table ({str(error).strip()}); check its rows"
            ) from None
    frame = frame[positions]
    if names is None:
        frame = frame.apply(_strip)
    frame = frame[frame.notna().any(axis=1)]
    frame.columns = [table.columns[position] for position in positions]
    return frame


def describe_non_number(word: str) -> str:
    """Describe a word that should be a number, for a message."""
    has_comma = re.fullmatch(r"[+-]?[\d.]*\d,\d[\d,.]*", word.strip())
    advice = ": write numbers with a decimal point and without thousands separators"
    return "is not a number" + (advice if has_comma else "")


def _strip(column: pd.Series) -> pd.Series:
    stripped = column.fillna("").astype(object).map(str.strip)
    return stripped.where(~stripped.str.lower().isin(MISSING), None)


def _spellings_of_missing() -> list[str]:
    return sorted({spelling for word in MISSING for spelling in (word, word.title(), word.upper())})
