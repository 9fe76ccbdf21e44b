"""Draws part of a large patient's tokens in training; children of drawn coarse tiles are drawn first."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np


def draw_tokens(
    counts: Mapping[int, int],
    parent: np.ndarray,
    max_tokens: int | Mapping[int, int],
    seed: tuple[int, int],
    patient_id: str,
) -> dict[int, np.ndarray]:
    """Draw part of a patient's tokens at random.

    One limit for all magnifications keeps families together: whole families, each a coarse token with all its children,
    are drawn as long as no magnification exceeds the limit. Where a coarse tile has four children, a quarter of the limit
    is left of the coarse tokens.

    Limits per magnification are used in full: each magnification keeps as many tokens as its limit allows. Coarse tokens
    are drawn first; of the fine tokens, the children of drawn ones come before all others.

    Args:
        counts: {m: number of tokens}.
        parent: (N_fine,) row in the coarse bag, −1 = none.
        max_tokens: Maximum number of tokens at each magnification, or {m: maximum number}, in which a magnification that
            is left out keeps all tokens. With one limit, at least one family, or one tile without a parent, is drawn
            even if it exceeds the limit.
        seed: Seed of the run and the epoch, so that every epoch draws anew.
        patient_id: Id of the patient, so that patients have different draws.

    Returns:
        {m: drawn rows, ascending} for the coarsest and the finest magnification; empty if no magnification exceeds its
        limit.
    """
    limits = max_tokens if isinstance(max_tokens, Mapping) else dict.fromkeys(counts, max_tokens)
    if all(n <= limits.get(m, n) for m, n in counts.items()):
        return {}
    generator = np.random.default_rng([*seed, zlib.crc32(patient_id.encode())])
    if len(counts) == 1:
        ((only, n),) = counts.items()
        return {only: np.sort(generator.permutation(n)[: limits[only]])}
    if isinstance(max_tokens, Mapping):
        return _draw_up_to_limits(counts, parent, max_tokens, generator)
    return _draw_families(counts, parent, max_tokens, generator)


def _draw_families(
    counts: Mapping[int, int], parent: np.ndarray, max_tokens: int, generator: np.random.Generator
) -> dict[int, np.ndarray]:
    """Draw coarse tokens with all their children, up to one limit at both magnifications."""
    coarse, fine = min(counts), max(counts)
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


def _draw_up_to_limits(
    counts: Mapping[int, int], parent: np.ndarray, limits: Mapping[int, int], generator: np.random.Generator
) -> dict[int, np.ndarray]:
    """Draw as many tokens as each magnification's limit allows, children of drawn coarse tokens before other fine ones."""
    coarse, fine = min(counts), max(counts)
    drawn = np.sort(generator.permutation(counts[coarse])[: limits.get(coarse)])
    is_first = np.isin(parent, drawn)
    # Tiles without a parent come first as often as coarse tiles are drawn, so that they are neither favoured nor lost.
    orphans = np.flatnonzero(parent < 0)
    is_first[orphans] = generator.random(len(orphans)) < len(drawn) / max(1, counts[coarse])
    order = generator.permutation(counts[fine])
    order = order[np.argsort(~is_first[order], kind="stable")]
    return {coarse: drawn, fine: np.sort(order[: limits.get(fine)])}
