"""Writes the colours of tiles as a pyramidal OME-TIFF that covers what QuPath shows of the slide."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dmml.atomic_files import atomic_write
from dmml.slides.geojson.frame import SlideFrame
from dmml.slides.geojson.tile_layer import TileLayer

MAX_PIXELS = 64_000_000
"""Largest number of pixels of the finest level of an overlay; a larger slide is reduced by a power of two"""
_BLOCK = 512
"""Side of the blocks of the file, pixels"""
_WHITE = 255


def reduction(frame: SlideFrame) -> int:
    """How many pixels of the slide one pixel of the overlay's finest level spans: 1, 2, 4, ..."""
    pixels = math.prod(frame.bounds.size)
    return 1 if pixels <= MAX_PIXELS else int(2 ** math.ceil(math.log2(pixels / MAX_PIXELS) / 2))


def write_ome_tiff(path: Path, layer: TileLayer, frame: SlideFrame, namespace: uuid.UUID) -> None:
    """Write the colours of a layer, white where no tile was read, block by block.

    Every pixel has the colour of the tile that holds its centre, on all levels of the pyramid.

    Args:
        path: File to write, ending with `.ome.tif`.
        layer: The tiles.
        frame: Image that QuPath shows of their slide; the overlay has its upper left corner and its size.
        namespace: As in `tile_features`. Otherwise the file's id would be made of the time and the machine's address.
    """
    import tifffile

    factor = reduction(frame)
    size = frame.bounds.size
    n_levels = 1 + max(0, math.ceil(math.log2(max(size) / factor / _BLOCK)))
    grid = _grid(layer)
    with atomic_write(path) as partial, tifffile.TiffWriter(partial, bigtiff=True, ome=True) as tiff:
        for level in range(n_levels):
            step = factor * 2**level
            width, height = (math.ceil(side / step) for side in size)
            metadata = {
                "axes": "YXS",
                "UUID": str(uuid.uuid5(namespace, f"overlay {layer.magnification}x")),
                "Name": f"{layer.magnification}x",
                "PhysicalSizeX": frame.mpp * step,
                "PhysicalSizeXUnit": "µm",
                "PhysicalSizeY": frame.mpp * step,
                "PhysicalSizeYUnit": "µm",
            }
            tiff.write(
                _blocks(grid, layer.tile_um, frame, step, (width, height)),
                shape=(height, width, 3),
                dtype=np.uint8,
                tile=(_BLOCK, _BLOCK),
                photometric="rgb",
                compression="deflate",
                subfiletype=1 if level else 0,
                subifds=0 if level else n_levels - 1,
                metadata=None if level else metadata,
            )


def _grid(layer: TileLayer) -> NDArray[np.uint8]:
    """(rows + 1, columns + 1, 3) uint8, colour of every cell of the grid; the last row and column are white."""
    columns, rows = layer.cell.max(axis=0) + 1
    grid = np.full((rows + 1, columns + 1, 3), _WHITE, np.uint8)
    grid[layer.cell[:, 1], layer.cell[:, 0]] = layer.colour
    return grid


def _blocks(
    grid: NDArray[np.uint8], tile_um: float, frame: SlideFrame, step: int, size: tuple[int, int]
) -> Iterator[NDArray[np.uint8]]:
    """Yield the blocks of a level of (width, height) pixels row by row; each pixel spans `step` pixels of the slide."""
    # Cells outside the grid, before its origin or behind its last tile, are those of its white row and column.
    column, row = (
        np.where((cell < 0) | (cell >= last), last, cell)
        for cell, last in (
            (_cells(origin, side, step, frame.mpp / tile_um), grid.shape[axis] - 1)
            for origin, side, axis in ((frame.bounds.left, size[0], 1), (frame.bounds.top, size[1], 0))
        )
    )
    for y in range(0, size[1], _BLOCK):
        for x in range(0, size[0], _BLOCK):
            block = np.full((_BLOCK, _BLOCK, 3), _WHITE, np.uint8)
            part = grid[np.ix_(row[y : y + _BLOCK], column[x : x + _BLOCK])]
            block[: part.shape[0], : part.shape[1]] = part
            yield block


def _cells(origin: int, n: int, step: int, cells_per_pixel: float) -> NDArray[np.int64]:
    """(n,) cell of the grid in which the centre of each pixel along one side of a level lies."""
    return np.floor((origin + (np.arange(n) + 0.5) * step) * cells_per_pixel).astype(np.int64)
