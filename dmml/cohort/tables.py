"""Reads text tables of hospitals and portals: CSV or TSV, zipped or gzipped, with comments and missing values.

The header is read first (`open_table`), the rows later (`read_rows`).
"""

from __future__ import annotations

import codecs
import csv
import difflib
import gzip
import io
import itertools
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pandas as pd

from dmml.cohort.file_sniffing import no_table, not_text
from dmml.cohort.separator import separator_of, split_line
from dmml.errors import InputError

# Words for unknown values in tables of GDC, cBioPortal, Xena, R and pandas, in lower case.
# "unknown" and "none" are left out, since they may be classes in a label column.
MISSING = frozenset(
    "|na|n/a|nan|null|<na>|#n/a|--|'--|.|?|not reported|not available|not applicable"
    "|[not available]|[not applicable]|[not evaluated]|[unknown]|[discrepancy]|[completed]|[pending]".split("|")
)

_SEPARATOR_LINE = re.compile(r'"?sep=.?"?', re.IGNORECASE)  # line that names the separator for Excel
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


@contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """Open a text file, a `.gz` or a `.zip` of one file, in UTF-8 or in UTF-16, the "Unicode text" of spreadsheets.

    Raises:
        InputError: The file does not exist or cannot be read, its compression does not match its ending, or it is not
            text.
    """
    try:
        with _open_bytes(path) as raw:
            encoding = "utf-16" if raw.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
            with io.TextIOWrapper(raw, encoding=encoding, newline="") as text:
                yield text
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; check the path (relative paths start at the working directory)"
        ) from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, a table is wanted here; name the file in it") from None
    except PermissionError:
        raise InputError(f"{path}: may not be read; give yourself the right to") from None
    except (gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, EOFError):
        raise InputError(f"{path}: damaged or not compressed as its name says; fetch it again") from None
    except UnicodeDecodeError:
        with path.open("rb") as raw:
            raise InputError(f"{path}: {not_text(raw.read(4096))}") from None


def _open_bytes(path: Path) -> io.BufferedReader | gzip.GzipFile | zipfile.ZipExtFile:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")
    if path.suffix != ".zip":
        return path.open("rb")
    archive = zipfile.ZipFile(path)
    members = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")]
    if len(members) != 1:
        raise InputError(f"{path}: holds {len(members)} files; a zipped table must be alone in its archive")
    if archive.getinfo(members[0]).flag_bits & 1:
        raise InputError(f"{path}: is locked with a password; unpack it, and give the table itself")
    return archive.open(members[0])


def open_table(path: str | Path) -> TextTable:
    """Read a table's header: its separator (see `separator_of`), its line and its column names.

    Lines before the header that start with `#`, and Excel's `sep=;`, are skipped. A header with one name fewer than the
    rows have fields (as written by R with row names) gets an empty first name.
    """
    path = Path(path)
    with open_text(path) as text:
        number, line = 0, ""
        for number, line in enumerate(text, start=1):  # noqa: B007 - the header's number is used below
            if line.strip() and not line.startswith("#") and not _SEPARATOR_LINE.fullmatch(line.strip()):
                break
        else:
            raise InputError(f"{path}: is empty; a table with a header line is wanted")
        if "\0" in line:
            raise InputError(f"{path}: holds NUL characters, as UTF-16 without its mark does; save it as CSV in UTF-8")
        line, more = _whole_header(line, text)
        if _OPEN_QUOTE.search(line) and line.count('"') % 2:
            raise InputError(f"{path}: line {number}: a quote in the header does not end; correct or remove it")
        number += more
        if other := no_table(line):
            raise InputError(f"{path}: {other}")
        if line.endswith("\r"):
            raise InputError(f"{path}: its lines end as on an old Mac (CR alone); save it with the line ends of today")
        following = list(itertools.islice(text, _LINES_TO_COMPARE))
        try:
            separator = separator_of(line, following)
            columns = [name.strip() for name in split_line(line, separator)]
            rows = [split_line(row, separator) for row in following if row.strip()]
        except csv.Error as error:
            raise InputError(f"{path}: its header cannot be read ({error}); check quotes and line ends") from None
    if rows and all(len(row) == len(columns) + 1 for row in rows) and any(row[-1].strip() for row in rows):
        columns = ["", *columns]
    return TextTable(path, separator, number, columns)


def _whole_header(line: str, text: Iterator[str]) -> tuple[str, int]:
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
    found = table.columns.count(column)
    if found == 1:
        return column
    if found > 1:
        raise InputError(f"{table.path}: {found} columns are called {column!r} ({option}); rename all but one")
    if behind := _line_behind_hash(table, column):
        raise InputError(
            f"{table.path}: line {behind} names {column!r} ({option}) behind a '#', which makes it a comment; remove the '#'"
        )
    near = difflib.get_close_matches(column, table.columns, n=3, cutoff=0.4)
    listed = [*near, *(name for name in table.columns if name and name not in near)]
    shown = ", ".join(listed[:12]) + (f", … ({len(listed)} in all)" if len(listed) > 12 else "")
    raise InputError(f"{table.path}: no column {column!r} ({option}); there are: {shown}")


def _line_behind_hash(table: TextTable, column: str) -> int | None:
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
    """
    place = {name: i for i, name in enumerate(table.columns)}
    positions = list(range(len(table.columns))) if columns is None else [place[name] for name in columns]
    options: dict = {"dtype": str, "keep_default_na": False}
    if names is not None:
        options = {"dtype": {positions[names]: str}, "na_values": _spellings(), "low_memory": False}
    with open_text(table.path) as handle:
        for _ in range(table.header_line):
            handle.readline()
        try:
            frame = pd.read_csv(
                _FieldCounter(handle, table, whole=names is not None),
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


class _FieldCounter:
    """Text stream for pandas that refuses lines with more fields than the header, which pandas would truncate.

    Empty fields at the end of a line are accepted, since spreadsheets leave them there. A line with fewer fields is
    refused if every line must be `whole`, as in a table of numbers; otherwise only if it is the last, unfinished one.
    """

    def __init__(self, handle: IO[str], table: TextTable, whole: bool):
        self._handle, self._table, self._whole = handle, table, whole
        self._line, self._rest = table.header_line, ""
        self._most = len(table.columns) - 1
        self._least = max((i for i, name in enumerate(table.columns) if name), default=0)

    def __iter__(self) -> Iterator[str]:
        return iter(self._handle)

    def read(self, size: int = -1) -> str:
        chunk = self._handle.read(size)
        if "\0" in chunk:
            raise InputError(f"{self._table.path}: holds NUL characters; the file is damaged, fetch or save it again")
        *lines, self._rest = (self._rest + chunk).split("\n") if chunk else [self._rest, ""]
        for line in lines:
            self._line += 1
            fields = line.count(self._table.separator)
            if fields > self._most and line.count('"') % 2 == 0:
                self._refuse_surplus(line)
            elif fields < self._least and (self._whole or not chunk):
                self._refuse_lack(line, fields + 1, last=not chunk)
        return chunk

    def _refuse_surplus(self, line: str) -> None:
        fields = split_line(line, self._table.separator)
        if any(field.strip() for field in fields[len(self._table.columns) :]):
            raise InputError(
                f"{self._table.path}: line {self._line} has {len(fields)} fields, the header "
                f"{len(self._table.columns)}; is a text with the separator in it not in quotes?"
            )

    def _refuse_lack(self, line: str, fields: int, last: bool) -> None:
        # Accept blank lines, GEO's markers (`!`), and lines with quotes, whose text may continue on the next line.
        if line.strip(" \t\r,;|") and not line.startswith("!") and '"' not in line:
            why = (
                "the file breaks off there, fetch it again" if last else "fill it, or write NA where a value is missing"
            )
            raise InputError(
                f"{self._table.path}: line {self._line} has {fields} of the header's {len(self._table.columns)} fields; {why}"
            )


def no_number(word: str) -> str:
    """Describe a word that should be a number, for a message."""
    comma = re.fullmatch(r"[+-]?[\d.]*\d,\d[\d,.]*", word.strip())
    return "is no number: numbers are written with a point and without marks of thousands" if comma else "is no number"


def _strip(column: pd.Series) -> pd.Series:
    stripped = column.fillna("").astype(object).map(str.strip)
    return stripped.where(~stripped.str.lower().isin(MISSING), None)


def _spellings() -> list[str]:
    return sorted({spelling for word in MISSING for spelling in (word, word.title(), word.upper())})
