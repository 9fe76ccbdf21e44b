"""Progress bars on a terminal, which `-q` hides. Imported from everywhere; tqdm is imported when a bar is shown."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn, TypeVar

if TYPE_CHECKING:
    from tqdm import tqdm

Item = TypeVar("Item")


def is_quiet() -> bool:
    """Whether the user asked for warnings only; without a command line, nobody has set the level of dmml's logger."""
    return logging.getLogger("dmml").level > logging.INFO


def hide_bar() -> bool | None:
    """Value of tqdm's `disable`: True hides the bar, None hides it only where stderr is no terminal."""
    return True if is_quiet() else None


def progress_bar(
    items: Iterable[Item], what: str, total: int | None = None, unit: str = "slide", leave: bool = False
) -> Iterable[Item]:
    """Show how many items are done while iterating, on a terminal only.

    Args:
        items: Items to work on.
        what: What is being done to them, in one word.
        total: Number of items, if `items` has no length.
        unit: What one item is.
        leave: Whether the bar stays when all are done.
    """
    from tqdm import tqdm

    bar: Iterable[Item] = tqdm(items, desc=what, total=total, unit=unit, disable=hide_bar(), leave=leave)
    return bar


def byte_bar(total: int, what: str) -> tqdm[NoReturn]:
    """Return a progress bar of bytes, a context manager whose `update` takes the number that was added.

    Args:
        total: Number of bytes.
        what: What is being done, in one word.
    """
    from tqdm import tqdm

    return tqdm(desc=what, total=total, unit="B", unit_scale=True, disable=hide_bar(), leave=False)
