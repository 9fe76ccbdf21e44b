"""Blood vessels in the stroma: walls, endothelium, and lumens filled with red cells."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_erosion

from dmml.simulate.slides.cells import draw_population
from dmml.simulate.slides.nuclei import draw_nuclei, jittered_lattice
from dmml.simulate.slides.stain_maps import StainMaps
from dmml.simulate.slides.tissue_map import UM_PER_PIXEL

VESSELS_PER_MM2 = 65.0
"""Number of vessels per mm² of stroma where the factor is 0."""
RADIUS_UM = 9.0
RADIUS_SPREAD = 0.45
LEAKED_CELLS_PER_MM2 = 400.0
"""Number of red cells outside vessels per mm² of stroma where the factor is 0."""
RED_CELL_UM = 3.1


def draw_vessels(stain_maps: StainMaps, vessels: float, rng: np.random.Generator) -> None:
    """Draw vessels onto the stain maps, in place, and remove their area from the masks of the other cells.

    Args:
        stain_maps: Stain maps and masks, changed in place.
        vessels: The factor `vessels` as the slide shows it.
        rng: Random number generator.
    """
    inner = binary_erosion(stain_maps.tissue[::8, ::8], iterations=4)
    candidates = np.argwhere(stain_maps.stroma[::8, ::8] & inner) * 8
    area = len(candidates) * 64 * (UM_PER_PIXEL / 1000) ** 2
    if not len(candidates):
        return
    count = min(len(candidates), rng.poisson(VESSELS_PER_MM2 * area * np.exp(0.95 * np.clip(vessels, -2.5, 2.2))))
    for centre in candidates[rng.choice(len(candidates), count, replace=False)]:
        radius = RADIUS_UM * np.exp(0.12 * vessels + RADIUS_SPREAD * rng.standard_normal()) / UM_PER_PIXEL
        _draw_vessel(stain_maps, centre, float(np.clip(radius, 7.0, 70.0)), rng)
    # Red cells that leaked out of vessels: there are more of them where vessels are numerous and fragile.
    leaked = rng.poisson(LEAKED_CELLS_PER_MM2 * area * np.exp(0.95 * np.clip(vessels, -2.5, 2.2)))
    free = np.argwhere(stain_maps.stroma)
    points = free[rng.integers(0, len(free), leaked)] + rng.random((leaked, 2))
    red = draw_population(points, rng, 0.9 * RED_CELL_UM, 0.08, (1.0, 1.4), 0.05, density=1.0, coarseness=0.0)
    draw_nuclei(stain_maps.red, stain_maps.eosin, red, rng, clears=0.0)


def _draw_vessel(stain_maps: StainMaps, centre: np.ndarray, radius: float, rng: np.random.Generator) -> None:
    """Draw one vessel: an eosin wall around an empty, bent ellipse, lined by flat nuclei, with red cells inside."""
    half_width = int(1.9 * radius) + 6
    top, left = (int(c) - half_width for c in centre)
    if (
        top < 0
        or left < 0
        or top + 2 * half_width > stain_maps.eosin.shape[0]
        or left + 2 * half_width > stain_maps.eosin.shape[1]
    ):
        return
    window = np.s_[top : top + 2 * half_width, left : left + 2 * half_width]
    angle, stretch = rng.uniform(0, np.pi), np.sqrt(rng.uniform(1.1, 2.4))
    y, x = np.meshgrid(np.arange(2 * half_width) - half_width, np.arange(2 * half_width) - half_width, indexing="ij")
    u = (np.cos(angle) * x + np.sin(angle) * y) / (radius * stretch)
    v = (np.cos(angle) * y - np.sin(angle) * x) / (radius / stretch)
    v = v + rng.normal(0, 0.18) * u * u
    distance = np.hypot(u, v)
    wall = (2.0 + 0.12 * radius) / radius
    inside = np.clip((1 - distance) * radius / 2 + 0.5, 0.0, 1.0).astype(np.float32)
    ring = np.exp(-(((distance - 1 - wall / 2) / wall) ** 2)).astype(np.float32)
    stain_maps.eosin[window] += ring * (0.62 - stain_maps.eosin[window]) * (stain_maps.eosin[window] > 0.02)
    for dye in (stain_maps.eosin, stain_maps.hematoxylin):
        dye[window] *= 1 - 0.97 * inside
    free = distance > 1 + wall
    for mask in (stain_maps.stroma, stain_maps.epithelium, stain_maps.lymphoid):
        mask[window] &= free

    turn = np.arange(0, 2 * np.pi, 17.0 / radius) + rng.uniform(0, 2 * np.pi)
    turn = turn[rng.random(len(turn)) < 0.75]
    along, across = radius * stretch * np.cos(turn), radius / stretch * np.sin(turn)
    ring_x, ring_y = np.cos(angle) * along - np.sin(angle) * across, np.sin(angle) * along + np.cos(angle) * across
    tangent = angle + np.arctan2(radius / stretch * np.cos(turn), -radius * stretch * np.sin(turn))
    flat = np.stack([centre[0] + ring_y, centre[1] + ring_x], axis=1)
    draw_nuclei(
        stain_maps.hematoxylin,
        stain_maps.eosin,
        draw_population(flat, rng, 2.1, 0.12, (2.6, 4.5), 0.04, 1.25, coarseness=0.2, angle=tangent),
        rng,
    )
    cells = jittered_lattice((2 * half_width, 2 * half_width), 2.05 * RED_CELL_UM / UM_PER_PIXEL, rng, jitter=0.25)
    deep = distance[cells[:, 0].astype(int), cells[:, 1].astype(int)] < 0.86
    cells = cells[deep & (rng.random(len(cells)) < rng.uniform(0.55, 1.0))]
    red = draw_population(
        cells + np.array([top, left]), rng, RED_CELL_UM, 0.06, (1.0, 1.3), 0.03, density=1.35, coarseness=0.0
    )
    draw_nuclei(stain_maps.red, stain_maps.eosin, red, rng, clears=0.0)
