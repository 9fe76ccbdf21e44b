"""Growth pattern of a tumor: the factor architecture moves it from glands with lumens and septa to solid sheets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion
from scipy.spatial import cKDTree

from dmml.simulate.slides.nuclei import jittered_lattice
from dmml.simulate.slides.texture import upsample
from dmml.simulate.slides.tissue_types import smooth_field

COARSE = 4
"""Side length, in slide pixels, of one pixel of the map on which the pattern is laid out."""


@dataclass(frozen=True)
class Pattern:
    """(rows, columns) float32 maps at full resolution: roughly the distance to the edge in pixels, positive inside."""

    lumen: np.ndarray
    septum: np.ndarray


def lay_out_glands(where: np.ndarray, architecture: float, spacing: float, rng: np.random.Generator) -> Pattern:
    """Lay out glands over a whole map; lumens open only well inside `where`.

    Args:
        where: (rows, columns) bool at full resolution.
        architecture: Standard normal; low = well-formed glands, high = solid sheets.
        spacing: Distance between gland centres in pixels.
        rng: Random number generator.
    """
    shape = where.shape
    small = (shape[0] // COARSE, shape[1] // COARSE)
    step = spacing / COARSE
    centres = jittered_lattice((small[0] + int(2 * step), small[1] + int(2 * step)), step, rng, jitter=0.30) - step
    formed = 1 / (1 + np.exp(1.5 * architecture + rng.normal(0.0, 0.45, len(centres))))
    radius = step * np.where(formed > 0.22, 0.06 + 0.24 * formed, 0.0) * rng.uniform(0.75, 1.2, len(centres))
    coarse = where[::COARSE, ::COARSE]
    deep = binary_erosion(coarse, iterations=int(0.22 * step))
    at = np.clip(centres.round().astype(int), 0, np.array(small) - 1)
    radius[~deep[at[:, 0], at[:, 1]]] = 0.0

    near = binary_dilation(coarse, iterations=3)
    points = np.argwhere(near).astype(float)
    for axis in range(2):  # bends the outlines, because no gland is a perfect circle
        points[:, axis] += 0.16 * step * smooth_field(small, 0.22 * step, rng)[near]
    distance, nearest = cKDTree(centres).query(points, k=2)
    first, second, gland_index = distance[:, 0], distance[:, 1], nearest[:, 0]
    lumen, septum = (np.full(small, -step, dtype=np.float32) for _ in range(2))
    lumen[near] = np.where(radius[gland_index] > 0, radius[gland_index] - first, -step)
    septum[near] = 0.055 * step * np.clip(2 * formed[gland_index] - 0.2, 0.0, 1.4) - (second - first) / 2
    return Pattern(lumen=COARSE * upsample(lumen, shape), septum=COARSE * upsample(septum, shape))
