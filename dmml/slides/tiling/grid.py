"""Lays tiles on a slide: one grid, anchored at the slide's origin, in which coarse tiles hold fine ones exactly.

A tile has the same number of pixels at any magnification m, 224 by default, and a pixel spans 10 / m µm; so a 10x tile
(224 µm) covers exactly four 20x tiles (112 µm). Tissue is measured on 20x tiles, or on finer ones if these are extracted: a tile is kept if it lies
completely on the slide and its share of tissue is at least 0.25. A coarser tile is kept if one of its children is; it
may extend beyond the slide's edge, where everything is white.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dmml.errors import InputError
from dmml.slides.wsi.mpp import pixel_um

DEFAULT_TILE_PX = 224
"""Side of a tile in pixels of its magnification, unless the user wants another"""
MIN_TILE_PX, MAX_TILE_PX = 32, 2048
"""Smallest and largest side of a tile: below, a tile shows a few cells, and above, a batch does not fit into memory"""
MIN_TISSUE = 0.25
DEFAULT_TISSUE = "colour"
"""Name of the built-in method with which `dmml.slides.tiling.tissue` finds tissue; any other is `module:function`"""
TISSUE_MAGNIFICATION = 20
"""Magnification at which tissue is measured, unless a finer one is wanted; so 10x tiles are the same in every store"""


@dataclass(frozen=True)
class Tiles:
    """Kept tiles of one magnification, row by row."""

    cell: np.ndarray
    """(N, 2) int64, column and row in this magnification's grid"""
    position: np.ndarray
    """(N, 2) float32 µm, x and y of the centre from the slide's origin"""
    parent: np.ndarray | None
    """(N,) int32, row of the tile of the coarser magnification that covers it; None if there is no coarser one"""

    def __len__(self) -> int:
        return len(self.cell)


def tile_um(magnification: int, tile_px: int) -> float:
    """Side of a tile of `tile_px` pixels, µm."""
    return tile_px * pixel_um(magnification)


def check_magnifications(magnifications: Sequence[int]) -> tuple[int, ...]:
    """Return the magnifications from coarse to fine: a single one, or two of which the finer is twice the coarser.

    Raises:
        InputError: Anything else was given.
    """
    ordered = tuple(sorted({int(m) for m in magnifications}))
    single = len(ordered) == 1
    if any(m not in (5, 10, 20, 40) for m in ordered) or not (
        single or (len(ordered) == 2 and ordered[1] == 2 * ordered[0])
    ):
        raise InputError(
            f"--magnifications {' '.join(str(m) for m in magnifications)}: give one of 5, 10, 20, 40, or a pair in "
            "which the second is twice the first, e.g. 10 20"
        )
    return ordered


def check_tile_px(tile_px: int) -> int:
    """Return the side of a tile in pixels, after checking that tiles of this size can be read.

    Raises:
        InputError: It is not between 32 and 2048.
    """
    if not MIN_TILE_PX <= tile_px <= MAX_TILE_PX:
        raise InputError(
            f"--tile-px {tile_px}: must be between {MIN_TILE_PX} and {MAX_TILE_PX}, such as {DEFAULT_TILE_PX} (default), "
            "256 or 512"
        )
    return int(tile_px)


def tissue_share(mask: np.ndarray, mask_mpp: float, tile: float, size_um: tuple[float, float]) -> np.ndarray:
    """Compute the share of tissue in every tile that lies completely on the slide.

    Args:
        mask: (H, W) bool, tissue at `mask_mpp`, from the slide's origin.
        mask_mpp: µm per pixel of the mask; the tile's side must be a whole number of them.
        tile: Side of a tile, µm.
        size_um: Width and height of the slide, µm.

    Returns:
        (rows, columns) float64.
    """
    side = round(tile / mask_mpp)
    if side < 1 or abs(side * mask_mpp - tile) > 1e-6 * tile:
        raise ValueError(f"a tile of {tile} µm is not a whole number of mask pixels of {mask_mpp} µm")
    # The epsilon absorbs the float error of a slide that is an exact number of tiles wide.
    columns, rows = (math.floor(um / tile + 1e-9) for um in size_um)
    covered = mask[: rows * side, : columns * side]
    covered = np.pad(covered, ((0, rows * side - covered.shape[0]), (0, columns * side - covered.shape[1])))
    return np.asarray(covered.reshape(rows, side, columns, side).mean(axis=(1, 3)))


def lay_tiles(
    share: np.ndarray,
    tissue_magnification: int,
    magnifications: Sequence[int],
    min_tissue: float = MIN_TISSUE,
    tile_px: int = DEFAULT_TILE_PX,
) -> dict[int, Tiles]:
    """Keep tiles by their share of tissue and number them row by row.

    Args:
        share: (rows, columns) share of tissue of the tiles of magnification `tissue_magnification`.
        tissue_magnification: Magnification of `share`, at least the finest wanted.
        magnifications: As returned by `check_magnifications`.
        min_tissue: Smallest share of tissue of a tile that is kept.
        tile_px: Side of a tile in pixels.

    Returns:
        {magnification: Tiles}; the finer of two has `parent`.
    """
    kept = share >= min_tissue
    tiles: dict[int, Tiles] = {}
    for magnification in magnifications:
        grid = _has_kept_child(kept, tissue_magnification // magnification)
        rows, columns = np.nonzero(grid)
        cell = np.stack([columns, rows], axis=1).astype(np.int64)
        position = ((cell + 0.5) * tile_um(magnification, tile_px)).astype(np.float32)
        tiles[magnification] = Tiles(cell, position, None)
        coarse = magnification // 2
        if magnification % 2 == 0 and coarse in tiles:
            coarse_row = {tuple(c): row for row, c in enumerate(tiles[coarse].cell.tolist())}
            parent = np.array([coarse_row[x // 2, y // 2] for x, y in cell.tolist()], np.int32)
            tiles[magnification] = Tiles(cell, position, parent)
    return tiles


def _has_kept_child(kept: np.ndarray, factor: int) -> np.ndarray:
    """(rows, columns) bool → a grid `factor` times coarser, True where any cell inside is True."""
    rows, columns = (math.ceil(n / factor) for n in kept.shape)
    padded = np.pad(kept, ((0, rows * factor - kept.shape[0]), (0, columns * factor - kept.shape[1])))
    return np.asarray(padded.reshape(rows, factor, columns, factor).any(axis=(1, 3)))
