"""Progress bars on a terminal, which `-q` hides."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")


def is_quiet() -> bool:
    """Whether the user asked for warnings only; without a command line, nobody has set the level of dmml's logger."""
    return logging.getLogger("dmml").level > logging.INFO


def progress_bar(items: Iterable[Item], what: str, total: int | None = None) -> Iterable[Item]:
    """Show how many slides are done while iterating, on a terminal only; the bar disappears at the end.

    Args:
        items: One item per slide.
        what: What is being done to the slides, in one word.
        total: Number of items, if `items` has no length.
    """
    from tqdm import tqdm

    bar: Iterable[Item] = tqdm(
        items, desc=what, total=total, unit="slide", disable=True if is_quiet() else None, leave=False
    )
    return bar
