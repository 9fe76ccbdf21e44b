"""Tables of a page: a caption, sortable columns, and cells with an optional hint below."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dmml.evaluation.report.formatting import number


@dataclass(frozen=True)
class Cell:
    """A table cell.

    Attributes:
        text: Text of the cell.
        hint: Small print below the text.
        order: Sort key; None sorts by the text.
        strong: Whether the cell is the main value of its row.
        code: Name that files use, displayed after the text.
    """

    text: str
    hint: str = ""
    order: float | None = None
    strong: bool = False
    code: str = ""


@dataclass(frozen=True)
class Table:
    """A table; the first cell of a row names the row.

    Attributes:
        caption: Caption of the table.
        columns: Names of the columns.
        rows: Rows with one cell per column.
        numeric: Indices of the columns whose cells are aligned as numbers.
        wide: Whether the table is so large that the page collapses it.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numeric: frozenset[int] = field(default_factory=frozenset)
    wide: bool = False


def value_cell(value: float | None, digits: int = 3, hint: str = "", strong: bool = False) -> Cell:
    """Cell of a number, or of an em dash if undefined; the page's script cannot sort by NaN."""
    order = None if value is None or value != value else value
    return Cell(number(value, digits), hint, order, strong)


def defined(value: float) -> float | None:
    """The value, or None if it is not finite."""
    return value if math.isfinite(value) else None


def estimate_cell(entry: Mapping[str, Any], key: str = "value", digits: int = 2) -> Cell:
    """Cell of an estimate with its interval below."""
    return Cell(number(entry[key], digits), interval(entry, digits), entry[key])


def interval(entry: Mapping[str, Any], digits: int = 3) -> str:
    """Format the limits of an interval: 0.62–0.79, or −0.02 to 0.10; empty if there is none."""
    if entry.get("low") is None:
        return ""
    # If a limit may be negative, a dash between the numbers would read as a minus sign.
    between = "–" if entry["low"] >= 0 else " to "
    return f"{number(entry['low'], digits)}{between}{number(entry['high'], digits)}"
