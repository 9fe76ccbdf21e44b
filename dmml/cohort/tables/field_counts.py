"""Refuses lines of a table that have more or fewer fields than its header, while pandas reads the table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

from dmml.cohort.tables.separators import split_line
from dmml.errors import InputError

if TYPE_CHECKING:
    from dmml.cohort.tables.text_table import TextTable


class FieldCounter:
    """Text stream for pandas that refuses lines with more fields than the header, which pandas would truncate.

    Empty fields at the end of a line are accepted, since spreadsheets leave them there. A line with fewer fields is
    refused if every line must be complete, as in a table of numbers; otherwise only if it is the last, unfinished one.

    Args:
        stream: The file, positioned after the header.
        table: Its header.
        complete_lines: Whether every line must be complete.
    """

    def __init__(self, stream: IO[str], table: TextTable, complete_lines: bool):
        self._stream, self._table, self._complete_lines = stream, table, complete_lines
        self._line, self._rest = table.header_line, ""
        self._max_separators = len(table.columns) - 1
        self._min_separators = max((i for i, name in enumerate(table.columns) if name), default=0)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the lines without checks; pandas requires the method, but reads by `read`."""
        return iter(self._stream)

    def read(self, size: int = -1) -> str:
        """Read and check up to `size` characters.

        Raises:
            InputError: A line has too many or too few fields, or the text contains NUL characters.
        """
        chunk = self._stream.read(size)
        if "\0" in chunk:
            raise InputError(
                f"{self._table.path}: contains NUL characters, so the file is damaged; download or save it again"
            )
        *lines, self._rest = (self._rest + chunk).split("\n") if chunk else [self._rest, ""]
        for line in lines:
            self._line += 1
            separators = line.count(self._table.separator)
            if separators > self._max_separators and line.count('"') % 2 == 0:
                self._check_surplus(line)
            elif separators < self._min_separators and (self._complete_lines or not chunk):
                self._check_missing(line, separators + 1, is_last=not chunk)
        return chunk

    def _check_surplus(self, line: str) -> None:
        fields = split_line(line, self._table.separator)
        if any(field.strip() for field in fields[len(self._table.columns) :]):
            raise InputError(
                f"{self._table.path}: line {self._line} has {len(fields)} fields, but the header has "
                f"{len(self._table.columns)}; put quotes around values that contain the separator"
            )

    def _check_missing(self, line: str, fields: int, is_last: bool) -> None:
        # Accept blank lines, GEO's markers (`!`), and lines with quotes, whose text may continue on the next line.
        if line.strip(" \t\r,;|") and not line.startswith("!") and '"' not in line:
            remedy = (
                "the file ends in the middle of this line, so download it again"
                if is_last
                else "complete it, and write NA where a value is missing"
            )
            raise InputError(
                f"{self._table.path}: line {self._line} has {fields} of the {len(self._table.columns)} fields in the header; "
                f"{remedy}"
            )
