"""A slide's tissue at full resolution: the tissue type of each pixel, and how much of the pixel is tissue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from dmml.simulate.slides.texture import random_crop, smooth_noise, upsample
from dmml.simulate.slides.tissue_types import GLASS, TISSUE_NAMES, divide_tissue, island

UM_PER_PIXEL = 0.5
SLIDE = 1568
"""Side length of a slide in pixels: seven 20x tiles."""
WINDOW = 1280
"""Side length in pixels of the square that contains all tissue."""
CELL = 8
"""Side length of one pixel of the label image, in slide pixels (4 µm)."""
RADIUS = (2.15, 2.40)
"""Range of half the height and half the width of the tissue, in 20x tiles. It gives about 23 tissue tiles at 20x and 9
at 10x."""
TILE = 224


@dataclass(frozen=True)
class TissueMap:
    """Tissue of one slide."""

    origin: tuple[int, int]
    """Row and column of the window's top left corner in the slide."""
    labels: np.ndarray
    """(WINDOW, WINDOW) uint8, tissue constants of `regions`."""
    cover: np.ndarray
    """(WINDOW, WINDOW) float32, 1 = tissue, 0 = glass, in between at the edge."""
    coarse_labels: np.ndarray
    """(SLIDE / CELL, SLIDE / CELL) uint8 labels of the whole slide."""


def draw_tissue_map(visible: np.ndarray, rng: np.random.Generator) -> TissueMap:
    """Lay out the tissue of one slide.

    Args:
        visible: (6,) factors that the slide shows.
        rng: Random number generator.
    """
    middle = (SLIDE - WINDOW) // 2
    steps = rng.integers(-3, 4, 2)
    origin = (int(middle + CELL * steps[0]), int(middle + CELL * steps[1]))
    cells = (WINDOW // CELL, WINDOW // CELL)
    radius = rng.uniform(*RADIUS, 2) * TILE / CELL
    mask = island(cells, tuple(radius), roughness=0.07, rng=rng)
    labels = divide_tissue(mask, scale=12.0, visible=visible, rng=rng)
    coarse = np.zeros((SLIDE // CELL, SLIDE // CELL), dtype=np.uint8)
    top, left = (side // CELL for side in origin)
    coarse[top : top + cells[0], left : left + cells[1]] = labels

    size = (WINDOW, WINDOW)
    best_share = np.full(size, -1.0, dtype=np.float32)
    full = np.zeros(size, dtype=np.uint8)
    for tissue in range(1, len(TISSUE_NAMES)):
        share = upsample(gaussian_filter((labels == tissue).astype(np.float32), 1.2), size)
        wins = share > best_share
        full[wins] = tissue
        best_share[wins] = share[wins]
    cover = upsample(gaussian_filter(mask.astype(np.float32), 1.3), size) - 0.5
    # Fray the edge: a knife never leaves a smooth curve.
    cover += 0.13 * random_crop(smooth_noise(10.0), size, rng) + 0.07 * random_crop(smooth_noise(3.0), size, rng)
    cover = np.clip(cover * 7.0, 0.0, 1.0)
    full[cover <= 0] = GLASS
    return TissueMap(origin=origin, labels=full, cover=cover, coarse_labels=coarse)
