"""Order of the training patients."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class EpochShuffle(Sampler[int]):
    """A new order every epoch that follows from seed and epoch alone, so that a resumed run meets the same batches.

    Args:
        size: Number of items.
        seed: Of the run.
    """

    def __init__(self, size: int, seed: int = 0):
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of an epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """The order of this epoch."""
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + self.epoch)
        return iter(torch.randperm(self.size, generator=generator).tolist())

    def __len__(self) -> int:
        """Number of items."""
        return self.size
