"""What a world adds to token features: meaningless differences between slides, and the factor that tissue alone shows."""

from __future__ import annotations

import functools

import numpy as np

from dmml.simulate.regions import LYMPHOID, STROMA, TUMOR
from dmml.simulate.truth import WORLD_SEED
from dmml.simulate.world_patients import WorldPatient
from dmml.simulate.worlds import ALL_TOKENS, NEW_TISSUE, OPPOSED, RARE

N_NUISANCE = 20
RARE_SHARE = 0.05
"""Share of the tokens that show h in rare tissue."""
NEW_TISSUE_LOGIT = (-2.5, 0.9)
"""Logit of the new tissue's share: intercept, and slope per unit of h."""


@functools.cache
def nuisance_directions(dim: int, magnification: int) -> np.ndarray:
    """(N_NUISANCE, D) of length 1, the same for every seed."""
    vectors = np.random.default_rng([WORLD_SEED, 3, dim, magnification]).standard_normal((N_NUISANCE, dim))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@functools.cache
def h_direction(dim: int, magnification: int) -> np.ndarray:
    """(D,) of length 1, along which tissue shows h; also the prototype of the new tissue."""
    vector = np.random.default_rng([WORLD_SEED, 4, dim, magnification]).standard_normal(dim)
    return vector / np.linalg.norm(vector)


def slide_shift(patient: WorldPatient, slide: int, dim: int, magnification: int) -> np.ndarray:
    """(D,) by which all tokens of a slide differ from other slides': weights N(0, 1), shared by the magnifications."""
    weights = patient.generator(f"nuisance{slide}").standard_normal(N_NUISANCE)
    return weights @ nuisance_directions(dim, magnification)


def planted(
    patient: WorldPatient, slide: int, cells: np.ndarray, parent: np.ndarray, tissue: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How much of h's direction each 20x token shows, before it is multiplied by the world's length.

    Args:
        patient: Whose slide.
        slide: Index of the slide within the patient.
        cells: (N, 2) row and column of the 20x tokens.
        parent: (N,) index of the 10x token around each; patches of rare tissue consist of whole 10x tokens.
        tissue: (N,) tissue of each, with the constants of `dmml.simulate.regions`.

    Returns:
        (N,) amounts, and (N,) bool: tokens whose own tissue the new tissue has replaced.
    """
    amount, replaced = np.zeros(len(cells)), np.zeros(len(cells), dtype=bool)
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
    return amount, replaced


def _patch(places: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """(N,) bool: the share of the places, at least one, that lies nearest to a random one of them."""
    centre = places[rng.integers(len(places))]
    distance = np.linalg.norm(places - centre, axis=1)
    chosen = np.argsort(distance, kind="stable")[: max(1, round(share * len(places)))]
    return np.isin(np.arange(len(places)), chosen)
