"""Finds a level of a pyramid that is damaged before tiles are read from it, so that the next finer one is read instead.

Whether a level is damaged follows from the file and the tiles alone. It is decided once, before the first tile is
encoded: so it depends neither on the number of readers, nor on where an earlier run was interrupted.
"""

from __future__ import annotations

import numpy as np

from dmml.slides.slide_error import SlideError
from dmml.slides.tiling.grid import Tiles, tile_um
from dmml.slides.tiling.tile_groups import read_tile_group, tile_groups
from dmml.slides.wsi.levels import MAX_UNREADABLE_SHARE
from dmml.slides.wsi.mpp import pixel_um
from dmml.slides.wsi.slide import Slide

_SAMPLE = 64
"""Tiles that are tried first: if a fifth of a level is damaged at random, all of 64 are whole once in a million times"""


def ignore_damaged_levels(slide: Slide, tiles: dict[int, Tiles], tile_px: int) -> None:
    """Ignore the level from which the tiles would be read, as long as more than a fifth of them cannot be decoded.

    Nothing is read from a finest level, for which there is no substitute. Levels are only tried completely if one of a
    few tiles cannot be decoded.

    Args:
        slide: The slide, whose `notes` then name the ignored levels.
        tiles: {magnification: its tiles}.
        tile_px: Side of a tile in pixels of its magnification.
    """
    mpp = pixel_um(max(tiles))
    while (
        (level := slide.level_for(mpp)) and _some_fail(slide, tiles, tile_px) and _too_many_fail(slide, tiles, tile_px)
    ):
        slide.ignore_damaged(level, mpp, f"more than {MAX_UNREADABLE_SHARE:.0%} of its tiles")


def _some_fail(slide: Slide, tiles: dict[int, Tiles], tile_px: int) -> bool:
    """Whether one of some evenly spaced fine tiles cannot be decoded."""
    fine = max(tiles)
    side = tile_um(fine, tile_px)
    rows = np.unique(np.linspace(0, len(tiles[fine]) - 1, min(len(tiles[fine]), _SAMPLE)).round().astype(int))
    for x, y in tiles[fine].cell[rows].tolist():
        try:
            slide.read(x * side, y * side, tile_px, tile_px, pixel_um(fine))
        except SlideError as error:
            if error.state != "unreadable":
                raise
            return True
    return False


def _too_many_fail(slide: Slide, tiles: dict[int, Tiles], tile_px: int) -> bool:
    """Whether more tiles of both magnifications cannot be decoded than a slide may lack."""
    allowed = MAX_UNREADABLE_SHARE * sum(map(len, tiles.values()))
    n_unreadable = 0
    for group in tile_groups(tiles, tile_px):
        read = read_tile_group(slide, tuple(sorted(tiles)), group, tile_px)
        n_unreadable += sum(tile is None for _, _, tile in read)
        if n_unreadable > allowed:
            return True
    return False
