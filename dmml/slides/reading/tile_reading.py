"""Reads the tiles of a slide; a coarse tile and the fine ones inside it come from one resampled block."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dmml.slides.slide_error import SlideError
from dmml.slides.stains.colour_map import ColourMap
from dmml.slides.tiling.grid import DEFAULT_TILE_PX, Tiles, tile_um
from dmml.slides.tiling.layout import Layout, SlideRequest, lay_out
from dmml.slides.wsi.block_means import block_means
from dmml.slides.wsi.mpp import pixel_um
from dmml.slides.wsi.slide import Slide

_GROUP_TILES = 40
"""Tiles of 224 px that are read in one call: enough to outweigh the cost of the transfer, few enough to keep memory use
flat"""
_STRIP_TILES = 8
"""Coarse tiles across a strip: what the file decodes at the lower edge of one line is still cached for the next"""


_KEPT_PX = 8_000_000
"""Slides of up to this many pixels stay open after they were laid out, since all that was decoded is still cached"""
_MAX_OPEN = 3
"""Slides that one reader keeps open: the one whose tiles it reads, and small ones that it has laid out for later"""


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
    """(n, tile_px, tile_px, 3) uint8"""
    n_unreadable: int
    """Number of tiles that cannot be decoded"""


def tile_groups(tiles: dict[int, Tiles], tile_px: int = DEFAULT_TILE_PX) -> Iterator[TileGroup]:
    """Divide the tiles of a slide into groups, strip by strip; a group has about the same pixels for any `tile_px`."""
    coarse, fine = min(tiles), max(tiles)
    n_tiles = _GROUP_TILES * DEFAULT_TILE_PX**2 // tile_px**2
    size = max(1, n_tiles // (5 if fine != coarse else 1))
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
    """Opens slides for one reader, which reads from one slide after the other, and lays out the next ones meanwhile."""

    def __init__(self) -> None:
        self._slides: dict[tuple[Path, float | None], Slide] = {}
        self._colours: tuple[SlideRequest, ColourMap] | None = None

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
        slide = self._open(request)
        try:
            slide.check_scale(request.magnifications)
            layout = lay_out(slide, request)
        except BaseException:
            self._close(request)
            raise
        if math.prod(slide.dimensions) > _KEPT_PX:
            self._close(request)
        return layout

    def read(self, request: SlideRequest, group: TileGroup) -> TileBatch:
        """Read the tiles of a group, normalised if asked; those that cannot be decoded are left out and counted."""
        slide, colours = self._open(request), self._colour_map(request)
        side = request.tile_px
        pixels = np.empty((len(group.row) + len(group.child_row), side, side, 3), np.uint8)
        magnifications: list[int] = []
        rows: list[int] = []
        for magnification, row, tile in read_tile_group(slide, request.magnifications, group, side):
            if tile is not None:
                pixels[len(rows)] = tile if colours is None else colours(tile)
                magnifications.append(magnification)
                rows.append(row)
        n_unreadable = len(pixels) - len(rows)
        return TileBatch(
            np.array(magnifications, np.int64), np.array(rows, np.int64), pixels[: len(rows)], n_unreadable
        )

    def close(self) -> None:
        """Close all slides."""
        for slide in self._slides.values():
            slide.close()
        self._slides, self._colours = {}, None

    def _open(self, request: SlideRequest) -> Slide:
        """Return the slide, which stays open for its tiles; of too many, the one not used for longest is closed."""
        key = (request.path, request.mpp)
        slide = self._slides.pop(key, None) or Slide(request.path, request.mpp)
        self._slides[key] = slide
        if len(self._slides) > _MAX_OPEN:
            self._slides.pop(next(iter(self._slides))).close()
        return slide

    def _close(self, request: SlideRequest) -> None:
        self._slides.pop((request.path, request.mpp)).close()

    def _colour_map(self, request: SlideRequest) -> ColourMap | None:
        """Return the normalisation of the slide's colours, which is computed once for all its tiles."""
        if request.stain_normalization is None or request.slide_stains is None:
            return None
        if self._colours is None or self._colours[0] != request:
            target = request.stain_normalization.target_stains
            self._colours = request, ColourMap(request.slide_stains, target)
        return self._colours[1]


def read_tile_group(
    slide: Slide, magnifications: tuple[int, ...], group: TileGroup, tile_px: int
) -> Iterator[tuple[int, int, np.ndarray | None]]:
    """Read the tiles of a group.

    Yields:
        (magnification, row, (tile_px, tile_px, 3) uint8); None instead of the pixels if a tile cannot be decoded.
    """
    coarse, fine = min(magnifications), max(magnifications)
    for index, (cell, row) in enumerate(zip(group.cell.tolist(), group.row.tolist(), strict=True)):
        corner = [number * tile_um(coarse, tile_px) for number in cell]
        if fine == coarse:
            yield coarse, row, _read(slide, corner, tile_px, coarse)
            continue
        block = _read(slide, corner, 2 * tile_px, fine)
        if block is None:
            yield coarse, row, _read(slide, corner, tile_px, coarse)
        else:
            yield coarse, row, block_means(block, 2)
        for child in np.flatnonzero(group.child_of == index):
            x, y = group.child_cell[child].tolist()
            left, top = (x - 2 * cell[0]) * tile_px, (y - 2 * cell[1]) * tile_px
            if block is None:
                tile = _read(slide, [number * tile_um(fine, tile_px) for number in (x, y)], tile_px, fine)
            else:
                tile = block[top : top + tile_px, left : left + tile_px]
            yield fine, int(group.child_row[child]), tile


def _read(slide: Slide, corner: list[float], side: int, magnification: int) -> np.ndarray | None:
    try:
        return slide.read(corner[0], corner[1], side, side, pixel_um(magnification))
    except SlideError as error:
        if error.state != "unreadable":
            raise
        return None
