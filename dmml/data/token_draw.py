"""Draw of a part of a large patient's tokens: coarse tiles with all their children."""

from __future__ import annotations

import zlib

import numpy as np


def draw_tokens(
    counts: dict[int, int], parent: np.ndarray, max_tokens: int, seed: tuple[int, int], patient_id: str
) -> dict[int, np.ndarray]:
    """Draw at most `max_tokens` of a patient's tokens at each magnification; a drawn parent keeps all its children.

    Args:
        counts: {m: number of tokens}.
        parent: (N_fine,) row in the coarse bag, −1 = none.
        max_tokens: Maximum number of tokens per magnification; at least one parent with all its children, or one tile
            without a parent, is drawn even if it exceeds the limit.
        seed: Seed of the run and the epoch, so that every epoch draws anew.
        patient_id: Id of the patient, so that patients have different draws.

    Returns:
        {m: drawn rows, ascending} for the coarsest and the finest magnification; empty if no magnification exceeds the
        limit.
    """
    if max(counts.values(), default=0) <= max_tokens:
        return {}
    generator = np.random.default_rng([*seed, zlib.crc32(patient_id.encode())])
    coarse, fine = min(counts), max(counts)
    if len(counts) == 1:
        return {fine: np.sort(generator.permutation(counts[fine])[:max_tokens])}
    # A unit is a parent with its children, or a fine tile without a parent.
    orphans = np.flatnonzero(parent < 0)
    children = np.bincount(parent[parent >= 0], minlength=counts[coarse])
    n_fine = np.concatenate([children, np.ones(len(orphans), dtype=np.int64)])
    n_coarse = np.concatenate([np.ones(counts[coarse], dtype=np.int64), np.zeros(len(orphans), dtype=np.int64)])
    order = generator.permutation(len(n_fine))
    fits = (np.cumsum(n_fine[order]) <= max_tokens) & (np.cumsum(n_coarse[order]) <= max_tokens)
    is_drawn = np.zeros(len(order), dtype=bool)
    is_drawn[order[: max(1, int(fits.sum()))]] = True
    parents = is_drawn[: counts[coarse]]
    keep = np.where(parent >= 0, parents[np.maximum(parent, 0)], False)
    keep[orphans] = is_drawn[counts[coarse] :]
    return {coarse: np.flatnonzero(parents), fine: np.flatnonzero(keep)}
