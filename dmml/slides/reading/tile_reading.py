"""Reads the tiles of a slide; a coarse tile and the fine ones inside it come from one resampled block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from dmml.slides.slide_error import SlideError
from dmml.slides.stains.colour_map import ColourMap
from dmml.slides.tiling.grid import TILE_PX, Tiles, tile_um
from dmml.slides.tiling.layout import Layout, SlideRequest, lay_out
from dmml.slides.wsi.mpp import pixel_um
from dmml.slides.wsi.slide import Slide

_GROUP_TILES = 40
"""Tiles that are read in one call: enough to outweigh the cost of the transfer, few enough to keep memory use flat"""
_STRIP_TILES = 8
"""Coarse tiles across a strip: what the file decodes at the lower edge of one line is still cached for the next"""


@dataclass(frozen=True)
class TileGroup:
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
    """(k,) index of the coarse tile within the group"""


@dataclass(frozen=True)
class TileBatch:
    """The tiles of a group that were read."""

    magnification: np.ndarray
    """(n,) int"""
    row: np.ndarray
    """(n,) int, row of the tile at its magnification"""
    pixels: np.ndarray
    """(n, 224, 224, 3) uint8"""
    n_unreadable: int
    """Number of tiles that cannot be decoded"""


def tile_groups(tiles: dict[int, Tiles]) -> Iterator[TileGroup]:
    """Divide the tiles of a slide into groups, strip by strip."""
    coarse, fine = min(tiles), max(tiles)
    size = max(1, _GROUP_TILES // (5 if fine != coarse else 1))
    parent = tiles[fine].parent
    parent = np.zeros(0, np.int64) if fine == coarse or parent is None else parent.astype(np.int64)
    by_parent = np.argsort(parent, kind="stable")
    first = np.searchsorted(parent[by_parent], np.arange(len(tiles[coarse]) + 1))
    column, line = tiles[coarse].cell.T
    reading_order = np.lexsort((column, line, column // _STRIP_TILES))
    for start in range(0, len(reading_order), size):
        row = reading_order[start : start + size]
        children = [by_parent[first[r] : first[r + 1]] for r in row]
        child_of = np.repeat(np.arange(len(row)), [len(rows) for rows in children])
        child_row = np.concatenate(children)
        child_cell = tiles[fine].cell[child_row] if len(child_row) else np.zeros((0, 2), np.int64)
        yield TileGroup(tiles[coarse].cell[row], row, child_cell, child_row, child_of)


class SlideSource:
    """Opens slides for one reader, which reads from one slide after the other."""

    def __init__(self) -> None:
        self._slide: Slide | None = None
        self._request: SlideRequest | None = None
        self._colours: ColourMap | None = None

    def check(self, request: SlideRequest) -> str | None:
        """Check that a slide opens and is fine enough, and return its DICOM series; None for other formats.

        Raises:
            SlideError: The slide cannot be used.
        """
        try:
            with Slide(request.path, request.mpp) as slide:
                slide.check_scale(request.magnifications)
                return slide.series
        except OSError as error:
            reason = f"{request.path}: cannot be read ({error.strerror or error}); check the file and its permissions"
            raise SlideError("unreadable", reason) from error

    def lay_out(self, request: SlideRequest) -> Layout:
        """Find the tissue of a slide and lay tiles on it.

        Raises:
            SlideError: The slide cannot be used.
        """
        with Slide(request.path, request.mpp) as slide:
            slide.check_scale(request.magnifications)
            return lay_out(slide, request)

    def read(self, request: SlideRequest, group: TileGroup) -> TileBatch:
        """Read the tiles of a group, normalised if asked; those that cannot be decoded are left out and counted."""
        magnifications, rows, pixels, n_unreadable = [], [], [], 0
        slide = self._open(request)
        for magnification, row, tile in read_tile_group(slide, request.magnifications, group):
            if tile is None:
                n_unreadable += 1
                continue
            magnifications.append(magnification)
            rows.append(row)
            pixels.append(tile if self._colours is None else self._colours(tile))
        return TileBatch(
            np.array(magnifications, np.int64),
            np.array(rows, np.int64),
            np.stack(pixels) if pixels else np.zeros((0, TILE_PX, TILE_PX, 3), np.uint8),
            n_unreadable,
        )

    def close(self) -> None:
        """Close the slide."""
        if self._slide is not None:
            self._slide.close()
        self._slide = self._request = self._colours = None

    def _open(self, request: SlideRequest) -> Slide:
        """Return the slide, which stays open for the next group of its tiles."""
        if self._slide is None or self._request != request:
            self.close()
            self._slide, self._request = Slide(request.path, request.mpp), request
            if request.stain_normalization is not None and request.slide_stains is not None:
                self._colours = ColourMap(request.slide_stains, request.stain_normalization.target_stains)
        return self._slide


def read_tile_group(
    slide: Slide, magnifications: tuple[int, ...], group: TileGroup
) -> Iterator[tuple[int, int, np.ndarray | None]]:
    """Read the tiles of a group.

    Yields:
        (magnification, row, (224, 224, 3) uint8); None instead of the pixels if a tile cannot be decoded.
    """
    coarse, fine = min(magnifications), max(magnifications)
    for index, (cell, row) in enumerate(zip(group.cell.tolist(), group.row.tolist(), strict=True)):
        corner = [number * tile_um(coarse) for number in cell]
        if fine == coarse:
            yield coarse, row, _read(slide, corner, TILE_PX, coarse)
            continue
        block = _read(slide, corner, 2 * TILE_PX, fine)
        if block is None:
            yield coarse, row, _read(slide, corner, TILE_PX, coarse)
        else:
            yield coarse, row, mean_of_quarters(block)
        for child in np.flatnonzero(group.child_of == index):
            x, y = group.child_cell[child].tolist()
            left, top = (x - 2 * cell[0]) * TILE_PX, (y - 2 * cell[1]) * TILE_PX
            if block is None:
                tile = _read(slide, [x * tile_um(fine), y * tile_um(fine)], TILE_PX, fine)
            else:
                tile = block[top : top + TILE_PX, left : left + TILE_PX]
            yield fine, int(group.child_row[child]), tile


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
