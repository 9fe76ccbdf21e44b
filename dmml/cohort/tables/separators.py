"""Detects the separator of a text table: a tab, semicolon, comma or bar, or the spaces of R."""

from __future__ import annotations

import csv
from collections.abc import Sequence

SEPARATORS = ("\t", ";", ",", "|")
"""Separators in order of preference, for tables that fit two of them equally well."""


def separator_of(header: str, following: Sequence[str] = ()) -> str:
    """Find the separator with which the header and the lines after it have the same number of fields.

    A header such as `note (a, b, c)` has more commas than tabs, so the header alone is not enough to decide. Spaces
    are considered only where the header has none of the other separators.

    Args:
        header: Line of the header.
        following: Lines after it; a few are enough.

    Raises:
        csv.Error: A line cannot be split into fields.
    """
    rows = [line for line in following if line.strip()]
    candidates = [separator for separator in SEPARATORS if separator in header]
    if not candidates:
        return " " if _is_spaced(header, rows) else ","
    # `max` returns the first of equal candidates, so the order of `SEPARATORS` counts.
    return max(
        candidates,
        key=lambda separator: (
            _agreement(header, rows, separator),
            _whole_brackets(header, separator),
            separator == "\t",
        ),
    )


def _is_spaced(header: str, rows: Sequence[str]) -> bool:
    """Whether a table is separated by single spaces, as R writes it, and not a single column of two words."""
    names = split_line(header, " ")
    width = len(names)
    several = "" not in names[1:] and (width > 2 or (width == 2 and '"' in header))
    return several and bool(rows) and all(len(split_line(row, " ")) in (width, width + 1) for row in rows)


def split_line(line: str, separator: str) -> list[str]:
    """Split a line into fields; a field in quotes may contain the separator."""
    return next(csv.reader([line.rstrip("\r\n")], delimiter=separator), [])


def _agreement(header: str, rows: Sequence[str], separator: str) -> float:
    """Mean score of the rows: 1 for as many fields as the header, 0.5 for one more (R's row names), else 0."""
    width = len(split_line(header, separator))
    scores = [{width: 1.0, width + 1: 0.5}.get(len(split_line(row, separator)), 0.0) for row in rows]
    return sum(scores) / len(scores) if scores and width > 1 else 0.0


def _whole_brackets(header: str, separator: str) -> bool:
    """Whether every field closes the brackets that it opens."""
    return all(field.count("(") == field.count(")") for field in split_line(header, separator))
