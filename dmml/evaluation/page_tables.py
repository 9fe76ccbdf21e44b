"""Tables of a page: a caption, columns that can be sorted, cells with a hint below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dmml.evaluation.written import number


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: What it says.
        hint: In small letters below.
        order: What it is sorted by; None sorts by the text.
        strong: It is what the row is about.
        code: A name as files have it, behind the text.
    """

    text: str
    hint: str = ""
    order: float | None = None
    strong: bool = False
    code: str = ""


@dataclass(frozen=True)
class Table:
    """One table; the first cell of a row names the row.

    Attributes:
        caption: What it holds.
        columns: Their names.
        rows: A cell a column.
        numeric: Columns whose cells are aligned as numbers.
        wide: Rows are many and the page shows them behind a fold.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numeric: frozenset[int] = field(default_factory=frozenset)
    wide: bool = False


def value_cell(value: float | None, digits: int = 3, hint: str = "", strong: bool = False) -> Cell:
    """A number, an em dash where undefined; the page's script cannot sort by NaN."""
    order = None if value is None or value != value else value
    return Cell(number(value, digits), hint, order, strong)


def estimate_cell(entry: dict[str, Any], key: str = "value", digits: int = 2) -> Cell:
    """An estimate with its interval below."""
    return Cell(number(entry[key], digits), interval(entry, digits), entry[key])


def interval(entry: dict[str, Any], digits: int = 3) -> str:
    """Ends of an interval: 0.62–0.79, or −0.02 to 0.10; empty where there is none."""
    if entry.get("low") is None:
        return ""
    # A dash between numbers of which one may be negative would read as a minus.
    between = "–" if entry["low"] >= 0 else " to "
    return f"{number(entry['low'], digits)}{between}{number(entry['high'], digits)}"
