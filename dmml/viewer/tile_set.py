"""The tiles of one magnification on one slide, with what was measured of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dmml.slides.colour_scale import attention_limit, contribution_limit
from dmml.slides.geojson.tile_layer import TileClass

CONTRIBUTION, ATTENTION = "contribution", "attention"
"""Beginnings of the names of measurements; others are treated by their sign"""


@dataclass(frozen=True)
class Measurement:
    """One number per tile.

    Attributes:
        name: As in the files for QuPath, such as `contribution, tumor`.
        values: (N,) float32; NaN where nothing was measured.
        limit: Value at which the colour scale ends; it begins at −limit if it is `diverging`, else at 0.
        diverging: Whether values may have either sign.
    """

    name: str
    values: NDArray[np.float32]
    limit: float
    diverging: bool


@dataclass(frozen=True)
class TileSet:
    """N tiles of one magnification on one slide.

    Attributes:
        magnification: Magnification of the tiles.
        tile_um: Side of a tile, µm.
        corner: (N, 2) float64, upper left corners, µm from the slide's origin.
        cell: (N, 2) int64, column and row.
        measurements: What was measured; none for a store, which holds features alone.
        classes: Classes of tiles; empty if there are none.
        class_index: (N,) int64, index into `classes`; −1 = none.
    """

    magnification: int
    tile_um: float
    corner: NDArray[np.float64]
    cell: NDArray[np.int64]
    measurements: Sequence[Measurement]
    classes: Sequence[TileClass]
    class_index: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.corner)


def plain_tiles(magnification: int, tile_um: float, centre: NDArray[np.float32]) -> TileSet:
    """Return tiles of which only the (N, 2) centres are known, µm from the slide's origin."""
    corner = np.asarray(centre, np.float64) - tile_um / 2
    cell = np.rint(corner / tile_um).astype(np.int64)
    return TileSet(magnification, tile_um, corner, cell, (), (), np.full(len(corner), -1, np.int64))


def measurement(name: str, values: NDArray, all_values: NDArray | None = None) -> Measurement:
    """Make a measurement with the colour scale of the maps of `dmml predict-slide`.

    Args:
        name: Name of the measurement.
        values: (N,) values of the tiles.
        all_values: Values of all the tiles that share the colour scale; None = `values`.
    """
    scale = np.asarray(values if all_values is None else all_values, np.float64)
    scale = scale[np.isfinite(scale)]
    diverging = name.startswith(CONTRIBUTION) or bool((scale < 0).any())
    if not len(scale):
        limit = 1.0
    elif name.startswith(ATTENTION):
        limit = attention_limit(scale)
    else:
        limit = contribution_limit(scale) or 1.0
    return Measurement(name, np.asarray(values, np.float32), limit, diverging)
