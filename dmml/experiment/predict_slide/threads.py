"""Threads for the forward pass of one patient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dmml.types import Batch

MAX_TOKENS = 4096
"""Up to this number of tokens, a forward pass takes one thread"""


@contextmanager
def threads_for(batch: Batch) -> Iterator[None]:
    """Compute on one thread if the batch is small.

    A pass over a small slide is a thousand operations of microseconds, and threads that wait for each other at each of
    them take several times as long as the work itself.

    Args:
        batch: The batch that is computed within this context.
    """
    n_threads = torch.get_num_threads()
    if sum(bag.mask.numel() for bag in batch.bags.values()) <= MAX_TOKENS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
