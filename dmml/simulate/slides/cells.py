"""Places the nuclei of a slide: their kinds, positions, sizes and shapes follow the factors."""

from __future__ import annotations

import numpy as np

from dmml.simulate.slides.nuclei import Nuclei, draw_nuclei, jittered_lattice
from dmml.simulate.slides.stain_maps import StainMaps
from dmml.simulate.slides.tissue_map import CELL, UM_PER_PIXEL
from dmml.simulate.truth import FACTOR_NAMES

TUMOR_SPACING = 11.2
TUBULE_SPACING = 8.5
LYMPHOID_SPACING = 6.5
"""Distance between neighbouring cells in µm."""
LYMPHOCYTES_IN_STROMA = 620.0
LYMPHOCYTES_IN_TUMOR = 170.0
FIBROBLASTS = 620.0
"""Cells per mm² where the factor that changes the density (lymphocytes or fibrosis) is 0."""
MITOSES = 0.018
"""Share of tumor nuclei in mitosis where proliferation is 0."""


def draw_cells(stain_maps: StainMaps, visible: np.ndarray, rng: np.random.Generator) -> None:
    """Draw all nuclei except those of vessels onto the stain maps, in place; small dark nuclei come last, on top."""
    factor = dict(zip(FACTOR_NAMES, visible, strict=True))
    for nuclei in (
        _fibroblasts(stain_maps, factor, rng),
        _tubule_cells(stain_maps, rng),
        *_tumor_cells(stain_maps, factor, rng),
        _lymphocytes(stain_maps, factor, rng),
    ):
        draw_nuclei(stain_maps.hematoxylin, stain_maps.eosin, nuclei, rng)


def draw_population(
    position: np.ndarray,
    rng: np.random.Generator,
    radius_um: float,
    spread: float,
    elongation: tuple[float, float],
    irregularity: float,
    density: float,
    density_spread: float = 0.08,
    coarseness: float = 0.5,
    nucleoli: float = 0.0,
    angle: np.ndarray | None = None,
) -> Nuclei:
    """Draw nuclei of one kind at given positions, with random variation between them.

    Args:
        position: (n, 2) row and column in pixels.
        rng: Random number generator.
        radius_um: Median radius in µm.
        spread: Standard deviation of the logarithm of the radius.
        elongation: Minimum and maximum ratio of the axes.
        irregularity: Median deviation of the outline from an ellipse.
        density: Median amount of hematoxylin.
        density_spread: Standard deviation of the logarithm of the amount of hematoxylin.
        coarseness: Median contrast of the chromatin.
        nucleoli: Maximum strength of a nucleolus.
        angle: (n,) angles of the long axes; random if None.
    """
    n = len(position)
    return Nuclei(
        position=position,
        radius=radius_um / UM_PER_PIXEL * np.exp(np.clip(spread * rng.standard_normal(n), -0.6, 0.75)),
        elongation=rng.uniform(*elongation, n),
        angle=rng.uniform(0, np.pi, n) if angle is None else angle,
        irregularity=irregularity * rng.uniform(0.6, 1.4, n),
        density=density * np.exp(density_spread * rng.standard_normal(n)),
        coarseness=coarseness * rng.uniform(0.6, 1.4, n),
        nucleoli=nucleoli * rng.uniform(0.0, 1.0, n),
    )


def _points_inside(mask: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Keep the points that lie in the mask."""
    return points[mask[points[:, 0].astype(int), points[:, 1].astype(int)]]


def _poisson_points(mask: np.ndarray, per_mm2: float, rng: np.random.Generator) -> np.ndarray:
    """Draw independent points (a Poisson process) in a mask at a mean density per mm²."""
    area = mask.size * (UM_PER_PIXEL / 1000) ** 2
    points = rng.random((rng.poisson(per_mm2 * area), 2)) * (np.array(mask.shape) - 1)
    return _points_inside(mask, points)


def _tumor_cells(stain_maps: StainMaps, factor: dict[str, float], rng: np.random.Generator) -> tuple[Nuclei, Nuclei]:
    """Draw resting tumor nuclei, and mitoses: dark ragged plates, single or in pairs."""
    proliferation, pleomorphism = factor["proliferation"], factor["pleomorphism"]
    spacing = TUMOR_SPACING / UM_PER_PIXEL * np.exp(-0.15 * proliferation + 0.03 * pleomorphism)
    points, angle = _around_lumens(stain_maps.epithelium, stain_maps.gland, spacing, rng)
    divides = rng.random(len(points)) < min(0.12, MITOSES * np.exp(0.9 * proliferation))
    wild = np.exp(0.55 * np.clip(pleomorphism, -2.2, 2.2))
    resting = draw_population(
        points[~divides],
        rng,
        radius_um=3.75 * np.exp(0.10 * pleomorphism),
        spread=0.10 * wild,
        elongation=(1.05, 1.45 + 0.12 * wild),
        irregularity=0.045 * wild,
        density=1.05 * np.exp(0.06 * pleomorphism + 0.05 * proliferation),
        density_spread=0.09 * wild,
        coarseness=0.55 + 0.12 * pleomorphism,
        nucleoli=0.28 * wild,
        angle=angle[~divides],
    )
    plates = points[divides]
    angle = rng.uniform(0, np.pi, len(plates))
    apart = np.where(rng.random(len(plates)) < 0.4, 5.0, 0.0)[:, None]  # anaphase: two plates
    across = np.stack([np.cos(angle), -np.sin(angle)], axis=1)
    mitoses = draw_population(
        np.concatenate([plates + apart * across, plates - apart * across]),
        rng,
        radius_um=2.3,
        spread=0.12,
        elongation=(2.2, 3.2),
        irregularity=0.16,
        density=2.1,
        coarseness=0.15,
        angle=np.tile(angle, 2),
    )
    return resting, mitoses


def _tubule_cells(stain_maps: StainMaps, rng: np.random.Generator) -> Nuclei:
    points, angle = _around_lumens(stain_maps.tubule, stain_maps.tubule_lumen, TUBULE_SPACING / UM_PER_PIXEL, rng)
    return draw_population(points, rng, 2.9, 0.06, (1.0, 1.2), 0.02, density=0.95, coarseness=0.35, angle=angle)


def _around_lumens(
    mask: np.ndarray, lumen: np.ndarray, spacing: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Place epithelial cells in a row around each lumen and loosely elsewhere.

    Returns:
        (n, 2) positions, and (n,) angles: perpendicular to the row in a row, random elsewhere.
    """
    row = _points_inside(
        mask & (lumen > -20) & (lumen < -9), jittered_lattice(mask.shape, 0.68 * spacing, rng, jitter=0.2)
    )
    loose = _points_inside(mask & (lumen <= -23), jittered_lattice(mask.shape, spacing, rng))
    points = np.concatenate([row, loose])
    y, x = np.clip(points.astype(int), 3, np.array(mask.shape) - 4).T
    outwards = np.arctan2(lumen[y + 3, x] - lumen[y - 3, x], lumen[y, x + 3] - lumen[y, x - 3])
    in_row = np.arange(len(points)) < len(row)
    return points, np.where(
        in_row, outwards + 0.2 * rng.standard_normal(len(points)), rng.uniform(0, np.pi, len(points))
    )


def _fibroblasts(stain_maps: StainMaps, factor: dict[str, float], rng: np.random.Generator) -> Nuclei:
    points = _poisson_points(stain_maps.stroma, FIBROBLASTS * np.exp(0.15 * factor["fibrosis"]), rng)
    along = stain_maps.fibre_angle[points[:, 0].astype(int) // CELL, points[:, 1].astype(int) // CELL]
    angle = along + rng.normal(0.0, 0.35 * np.exp(-0.25 * factor["fibrosis"]), len(points))
    return draw_population(points, rng, 2.7, 0.15, (2.4, 5.0), 0.05, density=1.0, coarseness=0.3, angle=angle)


def _lymphocytes(stain_maps: StainMaps, factor: dict[str, float], rng: np.random.Generator) -> Nuclei:
    more = np.exp(0.85 * np.clip(factor["lymphocytes"], -2.5, 2.2))
    points = np.concatenate(
        [
            _points_inside(
                stain_maps.lymphoid, jittered_lattice(stain_maps.lymphoid.shape, LYMPHOID_SPACING / UM_PER_PIXEL, rng)
            ),
            _poisson_points(stain_maps.stroma, LYMPHOCYTES_IN_STROMA * more, rng),
            _poisson_points(stain_maps.epithelium, LYMPHOCYTES_IN_TUMOR * more, rng),
        ]
    )
    return draw_population(
        points, rng, 2.75, 0.09, (1.0, 1.18), 0.02, density=1.75, density_spread=0.10, coarseness=0.35
    )
