"""The part of a slide that was scanned, if the file states it: viewers such as QuPath crop the slide to this part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_KEYS = tuple(f"openslide.bounds-{name}" for name in ("x", "y", "width", "height"))


@dataclass(frozen=True)
class Bounds:
    """A rectangle in pixels of the finest level; `left` and `top` are counted from the slide's origin."""

    left: int
    top: int
    width: int
    height: int

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.width, self.height

    @property
    def plain(self) -> list[int]:
        """The four numbers as the attributes of a slide keep them."""
        return [self.left, self.top, self.width, self.height]


def bounds_of(properties: Mapping[str, str], dimensions: tuple[int, int]) -> Bounds:
    """Return the scanned part of a slide, or the whole slide if its properties do not state all four numbers.

    Args:
        properties: Properties that OpenSlide (or another reader) returns.
        dimensions: (width, height) of the finest level.
    """
    try:
        return Bounds(*(int(properties[key]) for key in _KEYS))
    except (KeyError, ValueError):
        return Bounds(0, 0, *dimensions)
