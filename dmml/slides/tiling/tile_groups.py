"""Divides the tiles of a slide into groups and reads them; a coarse tile and the fine ones in it come from one block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dmml.slides.slide_error import SlideError
from dmml.slides.tiling.grid import DEFAULT_TILE_PX, Tiles, tile_um
from dmml.slides.wsi.block_means import block_means
from dmml.slides.wsi.mpp import pixel_um
from dmml.slides.wsi.slide import Slide

_GROUP_TILES = 40
"""Tiles of 224 px that are read in one call: enough to outweigh the cost of the transfer, few enough to keep memory use
flat"""
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
