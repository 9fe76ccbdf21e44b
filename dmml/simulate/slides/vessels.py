"""Blood vessels in the stroma: walls, endothelium, and lumens filled with red cells."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_erosion

from dmml.simulate.slides.cells import population
from dmml.simulate.slides.ground import Ground
from dmml.simulate.slides.nuclei import lay, scatter
from dmml.simulate.slides.tissue_map import UM_PER_PIXEL

PER_MM2 = 65.0
"""Number of vessels per mm² of stroma where the factor is 0."""
RADIUS_UM = 9.0
SPREAD = 0.45
LEAKED = 400.0
"""Number of red cells outside vessels per mm² of stroma where the factor is 0."""
RED_CELL_UM = 3.1


def lay_vessels(ground: Ground, vessels: float, rng: np.random.Generator) -> None:
    """Draw vessels onto the stain maps, in place, and remove their area from the masks of the other cells.

    Args:
        ground: Stain maps and masks, changed in place.
        vessels: The factor `vessels` as the slide shows it.
        rng: Random number generator.
    """
    inner = binary_erosion(ground.tissue[::8, ::8], iterations=4)
    candidates = np.argwhere(ground.stroma[::8, ::8] & inner) * 8
    area = len(candidates) * 64 * (UM_PER_PIXEL / 1000) ** 2
    if not len(candidates):
        return
    count = min(len(candidates), rng.poisson(PER_MM2 * area * np.exp(0.95 * np.clip(vessels, -2.5, 2.2))))
    for centre in candidates[rng.choice(len(candidates), count, replace=False)]:
        radius = RADIUS_UM * np.exp(0.12 * vessels + SPREAD * rng.standard_normal()) / UM_PER_PIXEL
        _lay_vessel(ground, centre, float(np.clip(radius, 7.0, 70.0)), rng)
    # Red cells that leaked out of vessels: there are more of them where vessels are numerous and fragile.
    leaked = rng.poisson(LEAKED * area * np.exp(0.95 * np.clip(vessels, -2.5, 2.2)))
    free = np.argwhere(ground.stroma)
    points = free[rng.integers(0, len(free), leaked)] + rng.random((leaked, 2))
    red = population(points, rng, 0.9 * RED_CELL_UM, 0.08, (1.0, 1.4), 0.05, density=1.0, coarseness=0.0)
    lay(ground.red, ground.eosin, red, rng, clears=0.0)


def _lay_vessel(ground: Ground, centre: np.ndarray, radius: float, rng: np.random.Generator) -> None:
    """Draw one vessel: an eosin wall around an empty, bent ellipse, lined by flat nuclei, with red cells inside."""
    reach = int(1.9 * radius) + 6
    top, left = (int(c) - reach for c in centre)
    if top < 0 or left < 0 or top + 2 * reach > ground.eosin.shape[0] or left + 2 * reach > ground.eosin.shape[1]:
        return
    here = np.s_[top : top + 2 * reach, left : left + 2 * reach]
    angle, stretch = rng.uniform(0, np.pi), np.sqrt(rng.uniform(1.1, 2.4))
    y, x = np.meshgrid(np.arange(2 * reach) - reach, np.arange(2 * reach) - reach, indexing="ij")
    u = (np.cos(angle) * x + np.sin(angle) * y) / (radius * stretch)
    v = (np.cos(angle) * y - np.sin(angle) * x) / (radius / stretch)
    v = v + rng.normal(0, 0.18) * u * u
    distance = np.hypot(u, v)
    wall = (2.0 + 0.12 * radius) / radius
    inside = np.clip((1 - distance) * radius / 2 + 0.5, 0.0, 1.0).astype(np.float32)
    ring = np.exp(-(((distance - 1 - wall / 2) / wall) ** 2)).astype(np.float32)
    ground.eosin[here] += ring * (0.62 - ground.eosin[here]) * (ground.eosin[here] > 0.02)
    for dye in (ground.eosin, ground.hematoxylin):
        dye[here] *= 1 - 0.97 * inside
    free = distance > 1 + wall
    for mask in (ground.stroma, ground.epithelium, ground.lymphoid):
        mask[here] &= free

    turn = np.arange(0, 2 * np.pi, 17.0 / radius) + rng.uniform(0, 2 * np.pi)
    turn = turn[rng.random(len(turn)) < 0.75]
    along, across = radius * stretch * np.cos(turn), radius / stretch * np.sin(turn)
    ring_x, ring_y = np.cos(angle) * along - np.sin(angle) * across, np.sin(angle) * along + np.cos(angle) * across
    tangent = angle + np.arctan2(radius / stretch * np.cos(turn), -radius * stretch * np.sin(turn))
    flat = np.stack([centre[0] + ring_y, centre[1] + ring_x], axis=1)
    lay(
        ground.hematoxylin,
        ground.eosin,
        population(flat, rng, 2.1, 0.12, (2.6, 4.5), 0.04, 1.25, coarseness=0.2, angle=tangent),
        rng,
    )
    cells = scatter((2 * reach, 2 * reach), 2.05 * RED_CELL_UM / UM_PER_PIXEL, rng, jitter=0.25)
    deep = distance[cells[:, 0].astype(int), cells[:, 1].astype(int)] < 0.86
    cells = cells[deep & (rng.random(len(cells)) < rng.uniform(0.55, 1.0))]
    red = population(
        cells + np.array([top, left]), rng, RED_CELL_UM, 0.06, (1.0, 1.3), 0.03, density=1.35, coarseness=0.0
    )
    lay(ground.red, ground.eosin, red, rng, clears=0.0)
