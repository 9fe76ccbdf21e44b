"""Reads the tiles of a slide; a coarse tile and the fine ones inside it come from one resampled block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from dmml.slides.tiling.grid import TILE_PX, Tiles, pixel_um, tile_um
from dmml.slides.tiling.layout import Layout, SlideRequest, lay_out
from dmml.slides.wsi.mpp import SlideError
from dmml.slides.wsi.reader import Slide

_UNIT_TILES = 40
"""Tiles that are read in one call: enough to outweigh the cost of the transfer, few enough to keep memory use flat"""

_STRIP = 8
"""Coarse tiles across a strip: what the file decodes at the lower edge of one line is still cached for the next"""


@dataclass(frozen=True)
class Unit:
    """Some coarse tiles of a slide, each with the fine ones inside it."""

    cell: np.ndarray
    """(n, 2) grid cells of the coarse tiles"""
    row: np.ndarray
    """(n,) rows of the coarse tiles"""
    child_cell: np.ndarray
    """(k, 2) grid cells of the fine tiles; empty if there is only one magnification"""
    child_row: np.ndarray
    """(k,) rows of the fine tiles"""
    child_of: np.ndarray
    """(k,) index of the coarse tile within the unit"""


@dataclass(frozen=True)
class ReadTiles:
    """The tiles of a unit that were read."""

    magnification: np.ndarray
    """(n,) int"""
    row: np.ndarray
    """(n,) int, row of the tile at its magnification"""
    pixels: np.ndarray
    """(n, 224, 224, 3) uint8"""
    lost: int
    """Number of tiles that cannot be decoded"""


def units_of(tiles: dict[int, Tiles]) -> Iterator[Unit]:
    """Divide the tiles of a slide into units, strip by strip."""
    coarse, fine = min(tiles), max(tiles)
    size = max(1, _UNIT_TILES // (5 if fine != coarse else 1))
    none = np.zeros(0, np.int64)
    parent = none if fine == coarse else tiles[fine].parent.astype(np.int64)
    order = np.argsort(parent, kind="stable")
    first = np.searchsorted(parent[order], np.arange(len(tiles[coarse]) + 1))
    column, line = tiles[coarse].cell.T
    walk = np.lexsort((column, line, column // _STRIP))
    for start in range(0, len(walk), size):
        row = walk[start : start + size]
        children = [order[first[r] : first[r + 1]] for r in row]
        child_of = np.repeat(np.arange(len(row)), [len(some) for some in children])
        child_row = np.concatenate(children)
        child_cell = tiles[fine].cell[child_row] if len(child_row) else np.zeros((0, 2), np.int64)
        yield Unit(tiles[coarse].cell[row], row, child_cell, child_row, child_of)


class SlideSource:
    """Opens slides for one reader, which reads from one slide after the other."""

    def __init__(self):
        self._slide: Slide | None = None
        self._request: SlideRequest | None = None

    def look(self, request: SlideRequest) -> str | None:
        """Check that a slide opens and is fine enough, and return its DICOM series; None for other formats.

        Raises:
            SlideError: The slide cannot be used.
        """
        try:
            with Slide(request.path, request.mpp) as slide:
                slide.check_scale(request.magnifications)
                return slide.series
        except OSError as error:
            reason = f"{request.path}: cannot be read ({error.strerror or error}); check the file and its rights"
            raise SlideError("unreadable", reason) from error

    def plan(self, request: SlideRequest) -> Layout:
        """Lay out a slide.

        Raises:
            SlideError: The slide cannot be used.
        """
        with Slide(request.path, request.mpp) as slide:
            slide.check_scale(request.magnifications)
            return lay_out(slide, request)

    def read(self, request: SlideRequest, unit: Unit) -> ReadTiles:
        """Read the tiles of a unit; those that cannot be decoded are left out and counted."""
        if self._request != request:
            self.close()
            self._slide, self._request = Slide(request.path, request.mpp), request
        read = [item for item in read_unit(self._slide, request.magnifications, unit)]
        good = [item for item in read if item[2] is not None]
        return ReadTiles(
            np.array([item[0] for item in good], np.int64),
            np.array([item[1] for item in good], np.int64),
            np.stack([item[2] for item in good]) if good else np.zeros((0, TILE_PX, TILE_PX, 3), np.uint8),
            len(read) - len(good),
        )

    def close(self) -> None:
        """Close the slide."""
        if self._slide is not None:
            self._slide.close()
        self._slide = self._request = None


def read_unit(
    slide: Slide, magnifications: tuple[int, ...], unit: Unit
) -> Iterator[tuple[int, int, np.ndarray | None]]:
    """Read the tiles of a unit.

    Yields:
        (magnification, row, (224, 224, 3) uint8); None instead of the pixels if a tile cannot be decoded.
    """
    coarse, fine = min(magnifications), max(magnifications)
    for index, (cell, row) in enumerate(zip(unit.cell.tolist(), unit.row.tolist(), strict=True)):
        corner = [number * tile_um(coarse) for number in cell]
        if fine == coarse:
            yield coarse, row, _read(slide, corner, TILE_PX, coarse)
            continue
        block = _read(slide, corner, 2 * TILE_PX, fine)
        if block is None:
            yield coarse, row, _read(slide, corner, TILE_PX, coarse)
        else:
            yield coarse, row, mean_of_quarters(block)
        for child in np.flatnonzero(unit.child_of == index):
            x, y = unit.child_cell[child].tolist()
            left, top = (x - 2 * cell[0]) * TILE_PX, (y - 2 * cell[1]) * TILE_PX
            if block is None:
                tile = _read(slide, [x * tile_um(fine), y * tile_um(fine)], TILE_PX, fine)
            else:
                tile = block[top : top + TILE_PX, left : left + TILE_PX]
            yield fine, int(unit.child_row[child]), tile


def mean_of_quarters(block: np.ndarray) -> np.ndarray:
    """(2n, 2n, 3) uint8 → (n, n, 3) uint8: each pixel is the rounded mean of the four that it covers."""
    # Pillow's box filter rounds after each of its two passes and would be up to one level off.
    return np.asarray(Image.fromarray(block).reduce(2))


def _read(slide: Slide, corner: list[float], side: int, magnification: int) -> np.ndarray | None:
    try:
        return slide.read(corner[0], corner[1], side, side, pixel_um(magnification))
    except SlideError as error:
        if error.state != "unreadable":
            raise
        return None
