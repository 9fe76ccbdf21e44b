"""What a world adds to token features: meaningless differences between slides, and the factor that tissue alone shows."""

from __future__ import annotations

import functools

import numpy as np

from dmml.simulate.regions import LYMPHOID, STROMA, TUMOR
from dmml.simulate.truth import WORLD_SEED
from dmml.simulate.world_patients import WorldPatient
from dmml.simulate.worlds import AGREEMENT, ALL_TOKENS, NEW_TISSUE, OPPOSED, RARE

N_NUISANCE = 20
RARE_SHARE = 0.05
"""Share of the tokens that show h in rare tissue."""
NEW_TISSUE_LOGIT = (-2.5, 0.9)
"""Logit of the new tissue's share: intercept, and slope per unit of h."""
AGREEMENT_SLOPE = 1.5
"""Logit of the share of tokens whose signs agree, per unit of h."""


@functools.cache
def nuisance_directions(dim: int, magnification: int) -> np.ndarray:
    """(N_NUISANCE, D) of length 1, the same for every seed."""
    vectors = np.random.default_rng([WORLD_SEED, 3, dim, magnification]).standard_normal((N_NUISANCE, dim))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@functools.cache
def h_directions(dim: int, magnification: int) -> np.ndarray:
    """(2, D) orthonormal: along the first tissue shows h, or the new tissue has its prototype; both together show signs."""
    vectors = np.random.default_rng([WORLD_SEED, 4, dim, magnification]).standard_normal((2, dim))
    first = vectors[0] / np.linalg.norm(vectors[0])
    second = vectors[1] - vectors[1] @ first * first
    return np.stack([first, second / np.linalg.norm(second)])


def slide_shift(patient: WorldPatient, slide: int, dim: int, magnification: int) -> np.ndarray:
    """(D,) by which all tokens of a slide differ from other slides': weights N(0, 1), shared by the magnifications."""
    weights = patient.generator(f"nuisance{slide}").standard_normal(N_NUISANCE)
    return weights @ nuisance_directions(dim, magnification)


def planted(
    patient: WorldPatient, slide: int, cells: np.ndarray, parent: np.ndarray, tissue: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How much of `h_directions` each 20x token shows, before it is multiplied by the world's length.

    Args:
        patient: Whose slide.
        slide: Index of the slide within the patient.
        cells: (N, 2) row and column of the 20x tokens.
        parent: (N,) index of the 10x token around each; patches of rare tissue consist of whole 10x tokens.
        tissue: (N,) tissue of each, with the constants of `dmml.simulate.regions`.

    Returns:
        (N, 2) amounts, and (N,) bool: tokens whose own tissue the new tissue has replaced.
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
    """(n, 2) signs, each plus for half of the tokens among those that agree and among those that do not."""
    order = rng.permutation(n)
    first = np.where(np.arange(n) % 2, 1.0, -1.0)
    second = np.where(np.arange(n) < round(agreeing * n), first, -first)
    return np.stack([first, second], axis=1)[order]


def _patch(places: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """(N,) bool: the share of the places, at least one, that lies nearest to a random one of them."""
    centre = places[rng.integers(len(places))]
    distance = np.linalg.norm(places - centre, axis=1)
    chosen = np.argsort(distance, kind="stable")[: max(1, round(share * len(places)))]
    return np.isin(np.arange(len(places)), chosen)
