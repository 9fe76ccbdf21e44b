"""Token features drawn directly, without pixels: they mimic an encoder's output and take milliseconds per slide.

A token is the prototype of its tissue + the directions of the factors that this tissue can show + the shift of its
site + noise. Tumor tokens show the tumor factors, stroma and lymphoid tokens the TME factors, normal tissue none. Both
magnifications carry the same information, each along different directions; a 10x token is the mean of the 20x tokens
that it covers.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

import numpy as np

from dmml.simulate.slides.tissue_types import GLASS, LYMPHOID, NORMAL, STROMA, TUMOR, divide_tissue, island
from dmml.simulate.truth import MODEL_SEED, SITES, Patient, visible_factors
from dmml.simulate.world_patients import WorldPatient
from dmml.simulate.world_tokens import h_directions, planted_amounts, slide_shift
from dmml.store import SlideFeatures

TILE_UM = {10: 224.0, 20: 112.0}
CELLS = (5, 8)
"""Minimum and maximum number of 10x grid cells along each side of the tissue."""
MARGIN = 1
"""Width of the glass border around the tissue, in 10x grid cells."""
PROTOTYPE_SIZE = 4.0
FACTOR_SIZE = 1.3
SITE_SIZE = {"development": 0.5, "held_out": 0.9}
TOKEN_NOISE = 1.0
FACTOR_VISIBILITY = {
    TUMOR: (1, 1, 1, 0, 0, 0),
    STROMA: (0, 0, 0, 0.7, 1, 1),
    NORMAL: (0,) * 6,
    LYMPHOID: (0, 0, 0, 1, 0.3, 0.3),
}
"""How strongly each tissue shows each factor, in the order of `FACTOR_NAMES`."""


@dataclass(frozen=True)
class TokenModel:
    """Fixed directions in feature space, per magnification."""

    prototypes: dict[int, np.ndarray]
    """{magnification: (5, D)}, one row per tissue; glass is 0."""
    directions: dict[int, np.ndarray]
    """{magnification: (6, D)}, one row per factor."""
    sites: dict[str, np.ndarray]
    """{site: (D,)}, the shift of each site; both magnifications share it."""

    def digest(self) -> str:
        """SHA-256 of the prototypes and directions, recorded in place of the hash of an encoder's weights."""
        arrays = [array for m in TILE_UM for array in (self.prototypes[m], self.directions[m])]
        return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


@functools.cache
def token_model(dim: int) -> TokenModel:
    """Draw the directions for features of width `dim`; they are the same for every cohort and seed."""
    rng = np.random.default_rng([MODEL_SEED, 2, dim])

    def directions(count: int, size: float) -> np.ndarray:
        vectors = rng.standard_normal((count, dim))
        return size * vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    prototypes = {m: directions(5, PROTOTYPE_SIZE) for m in TILE_UM}
    for array in prototypes.values():
        array[GLASS] = 0.0
    return TokenModel(
        prototypes=prototypes,
        directions={m: directions(6, FACTOR_SIZE) for m in TILE_UM},
        sites={site: directions(1, SITE_SIZE[cohort])[0] for cohort, names in SITES.items() for site in names},
    )


def draw_tokens(
    patient: Patient, slide: int, dim: int, visibility: float, cells: tuple[int, int] = CELLS
) -> tuple[dict[int, SlideFeatures], np.ndarray]:
    """Draw the features of one slide at 10x and 20x, and the tissue labels behind them.

    Args:
        patient: The patient to whom the slide belongs.
        slide: Index of the slide within the patient.
        dim: Width of the features.
        visibility: Correlation between each factor and what the slide shows of it, in (0, 1].
        cells: Minimum and maximum number of 10x grid cells along each side of the tissue.

    Returns:
        {10: …, 20: …}, where the 20x tokens have their 10x parents, and (rows, columns) uint8 labels, one per 20x tile.
    """
    rng = patient.generator(f"tokens{slide}")
    visible = visible_factors(patient, slide, visibility)
    sides = rng.integers(cells[0], cells[1] + 1, 2)
    rows, columns = (int(2 * (side + 2 * MARGIN)) for side in sides)
    radius = (float(0.9 * sides[0]), float(0.9 * sides[1]))
    mask = island((rows, columns), radius, roughness=0.12, rng=rng)
    labels = divide_tissue(mask, scale=2.0, visible=visible, rng=rng)

    fine = np.argwhere(labels != GLASS)  # (N20, 2) row, column
    coarse, parent = np.unique(fine // 2, axis=0, return_inverse=True)
    parent = parent.reshape(-1)
    model = token_model(dim)
    weights = np.zeros((5, 6))
    for tissue_type, factors in FACTOR_VISIBILITY.items():
        weights[tissue_type] = factors
    tissue = labels[fine[:, 0], fine[:, 1]]
    one_hot = np.eye(5)[tissue]
    content = np.concatenate([one_hot, one_hot @ weights * visible], axis=1)  # (N20, 5 + 6)
    amounts = np.zeros((len(fine), 2))
    if isinstance(patient, WorldPatient):
        amounts, replaced = planted_amounts(patient, slide, fine, parent, tissue)
        content[replaced] = 0.0
    merged = _mean_of_children(content, parent)

    bags = {}
    for m, grid, tokens in ((10, coarse, merged), (20, fine, content)):
        basis = np.concatenate([model.prototypes[m], model.directions[m]])
        features = tokens @ basis + model.sites[patient.site]
        if isinstance(patient, WorldPatient):
            features += _world_shift(patient, slide, amounts if m == 20 else _mean_of_children(amounts, parent), dim, m)
        features += TOKEN_NOISE * rng.standard_normal(features.shape)
        bags[m] = SlideFeatures(
            features=features.astype(np.float16),
            position=((grid[:, ::-1] + 0.5) * TILE_UM[m]).astype(np.float32),
            parent=parent.astype(np.int32) if m == 20 else None,
        )
    return bags, labels


def _mean_of_children(values: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """Average the 20x tokens that lie in each 10x token. (N20, ...), (N20,) → (N10, ...)."""
    means = np.zeros((parent.max() + 1, *values.shape[1:]))
    np.add.at(means, parent, values)
    return (means.T / np.bincount(parent)).T


def _world_shift(patient: WorldPatient, slide: int, amounts: np.ndarray, dim: int, magnification: int) -> np.ndarray:
    """Shift that a world adds to the tokens of one magnification: (N, D)."""
    world = patient.world
    shift = world.length.get(magnification, 0.0) * amounts @ h_directions(dim, magnification)
    site_shift = (world.site_size - 1) * token_model(dim).sites[patient.site]
    return shift + slide_shift(patient, slide, dim, magnification) + site_shift
