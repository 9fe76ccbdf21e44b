"""The arguments of a config's data section: those that describe a cohort, and those that say how it is loaded.

Standard library only, so that a config can be checked before torch is imported.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dmml.cohort.cohort_config import CohortConfig

_SHARED = {"shared": True}


@dataclass(frozen=True)
class Loading:
    """How patients are read and put into batches.

    Args:
        batch_size: Maximum number of patients per batch.
        num_workers: Number of worker processes that read ahead; 0 reads in the training process, with a cache.
        cache_gib: Memory for caching patients that were read, in GiB (only with `num_workers=0`).
        seed: Seed of the order of the training patients and of the draw of their tokens.
        max_tokens: Maximum number of tokens per patient and magnification in training, where tokens are drawn anew each
            epoch and parents keep all their children; validation and test read all tokens. None = all tokens.
        token_budget: Maximum number of tokens per batch, including padding; a patient with more forms a batch alone.
            None = no limit.
        pack: Number of batches whose patients are sorted by size before they are cut into batches, which saves padding;
            1 leaves the patients in random order.
        balance: Whether to draw each class equally often, or patients with and without the event.
    """

    batch_size: int = field(default=8, metadata=_SHARED)
    num_workers: int = field(default=0, metadata=_SHARED)
    cache_gib: float = field(default=2.0, metadata=_SHARED)
    seed: int = field(default=0, metadata=_SHARED)
    max_tokens: int | None = field(default=None, metadata=_SHARED)
    token_budget: int | None = field(default=None, metadata=_SHARED)
    pack: int = field(default=1, metadata=_SHARED)
    balance: bool = field(default=False, metadata=_SHARED)

    @property
    def needs_sizes(self) -> bool:
        """Whether batches are formed by the patients' numbers of tokens."""
        return self.pack > 1 or self.token_budget is not None


@dataclass(frozen=True)
class DataConfig(Loading, CohortConfig):
    """All arguments of a data section, those of `CohortConfig` first."""
