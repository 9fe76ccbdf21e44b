"""A part of a large patient's tokens: tiles of the coarse grid with all their children."""

from __future__ import annotations

import zlib

import numpy as np


def draw_tokens(
    counts: dict[int, int], parent: np.ndarray, max_tokens: int, seed: tuple[int, int], patient_id: str
) -> dict[int, np.ndarray]:
    """Rows of a patient to read: at most `max_tokens` at each magnification, parents with all their children.

    Args:
        counts: {m: tokens}, the coarsest magnification first.
        parent: (N_fine,) row in the coarse bag, −1 = none.
        max_tokens: Most tokens a magnification; one parent with its children is taken at least.
        seed: Of the run, and the epoch: every epoch draws anew.
        patient_id: Draws differently from its neighbour.

    Returns:
        {m: rows, ascending}; magnifications that need no draw are left out.
    """
    if max(counts.values(), default=0) <= max_tokens:
        return {}
    generator = np.random.default_rng([*seed, zlib.crc32(patient_id.encode())])
    coarse, fine = min(counts), max(counts)
    if len(counts) == 1:
        return {fine: np.sort(generator.permutation(counts[fine])[:max_tokens])}
    # A unit is a parent with its children, or a fine tile without a parent.
    alone = np.flatnonzero(parent < 0)
    children = np.bincount(parent[parent >= 0], minlength=counts[coarse])
    n_fine = np.concatenate([children, np.ones(len(alone), dtype=np.int64)])
    n_coarse = np.concatenate([np.ones(counts[coarse], dtype=np.int64), np.zeros(len(alone), dtype=np.int64)])
    order = generator.permutation(len(n_fine))
    fits = (np.cumsum(n_fine[order]) <= max_tokens) & (np.cumsum(n_coarse[order]) <= max_tokens)
    taken = np.zeros(len(order), dtype=bool)
    taken[order[: max(1, int(fits.sum()))]] = True
    parents = taken[: counts[coarse]]
    keep = np.where(parent >= 0, parents[np.maximum(parent, 0)], False)
    keep[alone] = taken[counts[coarse] :]
    return {coarse: np.flatnonzero(parents), fine: np.flatnonzero(keep)}
