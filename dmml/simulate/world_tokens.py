"""Additions of a world to the token features: uninformative differences between slides, and the factor h."""

from __future__ import annotations

import functools

import numpy as np

from dmml.simulate.slides.tissue_types import LYMPHOID, STROMA, TUMOR
from dmml.simulate.truth import MODEL_SEED
from dmml.simulate.world_patients import WorldPatient
from dmml.simulate.worlds import AGREEMENT, ALL_TOKENS, NEW_TISSUE, OPPOSED, RARE

N_NUISANCE = 20
RARE_SHARE = 0.05
"""Share of the tokens that show h in the world `rare_tissue`."""
NEW_TISSUE_LOGIT = (-2.5, 0.9)
"""Logit of the new tissue's share: intercept, and slope per unit of h."""
AGREEMENT_SLOPE = 1.5
"""Change of the logit of the share of tokens whose signs agree, per unit of h."""


@functools.cache
def nuisance_directions(dim: int, magnification: int) -> np.ndarray:
    """Directions of the differences between slides: (N_NUISANCE, D), of length 1, the same for every seed."""
    vectors = np.random.default_rng([MODEL_SEED, 3, dim, magnification]).standard_normal((N_NUISANCE, dim))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@functools.cache
def h_directions(dim: int, magnification: int) -> np.ndarray:
    """Orthonormal directions (2, D), the same for every seed.

    Tissue shows h along the first one, and the new tissue has its prototype there; the two signs need both.
    """
    vectors = np.random.default_rng([MODEL_SEED, 4, dim, magnification]).standard_normal((2, dim))
    first = vectors[0] / np.linalg.norm(vectors[0])
    second = vectors[1] - vectors[1] @ first * first
    return np.stack([first, second / np.linalg.norm(second)])


def slide_shift(patient: WorldPatient, slide: int, dim: int, magnification: int) -> np.ndarray:
    """Shift (D,) of all tokens of a slide, with weights ~ N(0, 1) that the magnifications share."""
    weights = patient.generator(f"nuisance{slide}").standard_normal(N_NUISANCE)
    return weights @ nuisance_directions(dim, magnification)


def planted_amounts(
    patient: WorldPatient, slide: int, cells: np.ndarray, parent: np.ndarray, tissue: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Amount of each of the two `h_directions` in every 20x token, before multiplication by the world's length.

    Args:
        patient: The patient to whom the slide belongs.
        slide: Index of the slide within the patient.
        cells: (N, 2) row and column of the 20x tokens.
        parent: (N,) index of the 10x token that covers each; patches of rare tissue consist of whole 10x tokens.
        tissue: (N,) tissue of each token, one of the constants of `dmml.simulate.slides.tissue_types`.

    Returns:
        (N, 2) amounts, and (N,) bool, True for tokens whose tissue has been replaced by the new tissue.
    """
    amounts, replaced = np.zeros((len(cells), 2)), np.zeros(len(cells), dtype=bool)
    amount = amounts[:, 0]
    planting, rng = patient.world.planting, patient.generator(f"planted{slide}")
    if planting == ALL_TOKENS:
        amount[:] = patient.h
    elif planting == RARE:
        centres = np.stack([np.bincount(parent, cells[:, k]) / np.bincount(parent) for k in range(2)], axis=1)
        amount[_patch(centres, RARE_SHARE, rng)[parent]] = patient.h
    elif planting == NEW_TISSUE:
        intercept, slope = NEW_TISSUE_LOGIT
        replaced = _patch(cells, 1 / (1 + np.exp(-intercept - slope * patient.h)), rng)
        amount[replaced] = 1.0
    elif planting == OPPOSED:
        tumor, microenvironment = patient.opposed
        amount[tissue == TUMOR] = tumor
        amount[np.isin(tissue, (STROMA, LYMPHOID))] = microenvironment
    elif planting == AGREEMENT:
        amounts[:] = _signs(parent.max() + 1, 1 / (1 + np.exp(-AGREEMENT_SLOPE * patient.h)), rng)[parent]
    return amounts, replaced


def _signs(n: int, agreeing: float, rng: np.random.Generator) -> np.ndarray:
    """Draw signs (n, 2) that agree in a given share of the tokens.

    Each sign is positive in half of the tokens, among those that agree as among those that do not.
    """
    order = rng.permutation(n)
    first = np.where(np.arange(n) % 2, 1.0, -1.0)
    second = np.where(np.arange(n) < round(agreeing * n), first, -first)
    return np.stack([first, second], axis=1)[order]


def _patch(positions: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Choose a given share of the positions, at least one, that lies nearest to a random one of them: (N,) bool."""
    centre = positions[rng.integers(len(positions))]
    distance = np.linalg.norm(positions - centre, axis=1)
    nearest = np.argsort(distance, kind="stable")[: max(1, round(share * len(positions)))]
    return np.isin(np.arange(len(positions)), nearest)
