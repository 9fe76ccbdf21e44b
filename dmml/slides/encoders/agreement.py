"""Compares the features that two backends give for the same probe tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dmml.slides.tiling.grid import DEFAULT_TILE_PX

MIN_COSINE = 0.9999
"""Smallest cosine between the features of a graph and those of PyTorch, for any probe tile, with which a graph is used"""
_GRAINS = (2, 4, 7, 14, 28, 56)
"""Patches along a side of each probe tile"""
_COLOURS = np.array([[240, 236, 240], [226, 160, 196], [104, 66, 140]], np.float64)
"""Glass, and tissue stained with eosin and with hematoxylin"""


@dataclass(frozen=True)
class Agreement:
    """How closely the features of probe tiles agree with a reference."""

    cosine: float
    """Smallest cosine between the features of a tile"""
    relative_error: float
    """Largest difference of a feature, as a fraction of the largest feature"""

    @property
    def suffices(self) -> bool:
        """Whether the features may stand for those of the reference; False for NaN, too."""
        return self.cosine >= MIN_COSINE

    def __str__(self) -> str:
        return f"cosine {self.cosine:.7f}, largest relative error {self.relative_error:.1e}"

    def plain(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        return {"cosine": self.cosine, "relative_error": self.relative_error}


def probe_tiles(tile_px: int = DEFAULT_TILE_PX) -> np.ndarray:
    """Draw the tiles (8, tile_px, tile_px, 3) uint8 on which backends are compared: stained patches, glass and noise."""
    rng = np.random.default_rng(0)
    shape = (tile_px, tile_px, 3)
    tiles = [np.full(shape, 244.0), rng.uniform(0, 255, shape)]
    for grains in _GRAINS:
        patches = _COLOURS[rng.integers(0, len(_COLOURS), (grains, grains))]  # (grains, grains, 3)
        side = math.ceil(tile_px / grains)
        picture = patches.repeat(side, 0).repeat(side, 1)[:tile_px, :tile_px]
        tiles.append(picture + rng.normal(0, 12, shape))
    return np.clip(np.stack(tiles), 0, 255).astype(np.uint8)


def compare(features: np.ndarray, reference: np.ndarray) -> Agreement:
    """Compare features (n, D) with a reference of the same shape."""
    first, second = features.astype(np.float64), reference.astype(np.float64)
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = np.einsum("nd,nd->n", first, second) / norms
        relative_error = np.abs(first - second).max() / np.abs(second).max()
    return Agreement(float(cosines.min()), float(relative_error))


def agree_within_float16(features: np.ndarray, reference: np.ndarray) -> bool:
    """Whether features (n, D) differ from a reference by no more than their rounding to float16 in a store.

    That is one step of float16 at the feature's own size, or at the root mean square of its tile if that is larger,
    because the rounding of sums inside a network does not shrink with a feature that is close to zero.
    """
    first, second = features.astype(np.float64), reference.astype(np.float64)
    scale = np.maximum(np.abs(second), np.sqrt((second**2).mean(axis=1, keepdims=True)))
    step = np.spacing(np.minimum(scale, 65_504).astype(np.float16)).astype(np.float64)
    return bool((np.abs(first - second) <= step).all())
