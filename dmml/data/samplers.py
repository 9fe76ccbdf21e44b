"""Samplers that decide, from seed and epoch alone, which patients form a batch, in which order and on which process."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from torch.utils.data import Dataset, DistributedSampler, Sampler

from dmml.errors import InputError

MAX_ATTEMPTS = 20
"""Number of orders to try until one needs no more batches than an epoch has"""


class EpochShuffle(Sampler[int]):
    """A new order every epoch that depends only on seed and epoch, so that a resumed run sees the same patients.

    Args:
        size: Number of items.
        seed: Seed of the run.
    """

    def __init__(self, size: int, seed: int = 0):
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; Lightning calls this at the start of each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """Yield the items in the order of this epoch."""
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + self.epoch)
        return iter(torch.randperm(self.size, generator=generator).tolist())

    def __len__(self) -> int:
        """Number of items."""
        return self.size


class PlannedBatch(NamedTuple):
    """A batch as the sampler plans it: rows of the dataset, and the epoch for which tokens are drawn."""

    epoch: int | None
    """None = all tokens"""
    rows: list[int]


class PatientBatches(DistributedSampler):
    """Sampler of whole batches: every process computes the same plan and takes its share of the batches.

    All training epochs have the same number of batches, and all processes an equal share of them, so that a schedule
    over training steps is right and no process waits for one that has finished. If the batches cannot be shared
    equally, batches are split before any patient is repeated. Validation and test batches never repeat a patient, and
    hold the same patients as with one process unless there are fewer batches than processes.

    A resumed run sees the batches that the run would have seen without the interruption.

    Args:
        sizes: (patients, M) number of tokens at each magnification.
        batch_size: Maximum number of patients per batch.
        seed: Seed of the order.
        training: Whether the batches are for training, in a new order every epoch.
        pack: Number of batches whose patients are sorted by size before they are cut into batches, which saves padding;
            1 leaves them in random order.
        token_budget: Maximum number of tokens per batch, including padding; a patient with more forms a batch alone.
            None = no limit.
        weights: (patients,) how often to draw each patient in training, relative to the others; None = each once.
        rank: Rank of this process.
        world: Number of processes.

    Raises:
        InputError: There are fewer patients than processes, or `batch_size`, `pack` or `token_budget` is below 1.
    """

    def __init__(
        self,
        sizes: np.ndarray,
        batch_size: int,
        seed: int = 0,
        training: bool = False,
        pack: int = 1,
        token_budget: int | None = None,
        weights: np.ndarray | None = None,
        rank: int = 0,
        world: int = 1,
    ):
        patients = cast(Dataset, range(len(sizes)))  # of which only the length is read
        super().__init__(patients, num_replicas=world, rank=rank, shuffle=training, seed=seed)
        if len(sizes) < world:
            raise InputError(
                f"{len(sizes)} patients cannot be shared by {world} processes, since one would have none; set "
                "trainer.devices to fewer"
            )
        if batch_size < 1 or pack < 1 or (token_budget is not None and token_budget < 1):
            raise InputError("data.batch_size, data.pack and data.token_budget must be at least 1")
        self.sizes, self.batch_size, self.pack, self.token_budget = np.asarray(sizes), batch_size, pack, token_budget
        self.training, self.weights, self.world = training, weights, world
        self._start: tuple[int, int] = (0, 0)
        self._count = self._epoch_length()

    def resume(self, epoch: int, done: int) -> None:
        """Start in an epoch of which this process has already done `done` batches."""
        self.epoch, self._start = epoch, (epoch, done)

    def __len__(self) -> int:
        """Number of batches of this process in an epoch."""
        return len(range(self.rank, self._count, self.world))

    def __iter__(self) -> Iterator[PlannedBatch]:
        """Yield the batches of this process."""
        epoch, done = self._start
        batches = self.plan(self.epoch)[self.rank :: self.world]
        for batch in batches[done if epoch == self.epoch else 0 :]:
            yield PlannedBatch(self.epoch if self.training else None, batch)

    # ---- the plan ----------------------------------------------------------------------------------------------

    def plan(self, epoch: int) -> list[list[int]]:
        """Rows of all batches of all processes in an epoch."""
        if not self.training:
            return _split(self._cut(np.arange(len(self.sizes))), self._count, repeat=False)
        for attempt in range(MAX_ATTEMPTS):
            batches = self._cut(self._order(epoch, attempt))
            if len(batches) <= self._count:
                break
        else:
            if self.weights is None:  # sorted by size, which needs the fewest batches
                batches = self._cut(np.argsort(self.sizes.sum(1), kind="stable"))
            batches = batches[: self._count]  # a weighted draw loses its last batches and stays weighted
        batches = _split(batches, self._count, repeat=True)
        generator = np.random.default_rng([self.seed, epoch, MAX_ATTEMPTS])
        return [batches[i] for i in generator.permutation(len(batches))] if self.pack > 1 else batches

    def padding(self, epoch: int = 0) -> float:
        """Share of an epoch's tokens that are padding."""
        batches = self.plan(epoch)
        real = sum(int(self.sizes[batch].sum()) for batch in batches)
        return 1 - real / max(1, sum(self._padded(self.sizes[batch].max(0), len(batch)) for batch in batches))

    def _epoch_length(self) -> int:
        if not self.training:
            return max(self.world, len(self._cut(np.arange(len(self.sizes)))))
        by_size = self._cut(np.argsort(self.sizes.sum(1), kind="stable"))
        needed = max(len(self._cut(self._order(0, 0))), len(by_size))
        if self.token_budget is not None:
            needed += len(range(0, needed, 50))  # other orders may need a few more batches
        return -(-needed // self.world) * self.world

    def _order(self, epoch: int, attempt: int) -> np.ndarray:
        n = len(self.sizes)
        if self.weights is not None:
            generator = np.random.default_rng([self.seed, epoch, attempt] if attempt else [self.seed, epoch])
            order = generator.choice(n, n, p=self.weights / self.weights.sum())
        else:
            shuffle = EpochShuffle(n, self.seed)
            shuffle.set_epoch(epoch + attempt * 100_003)
            order = np.array(list(shuffle))
        if self.pack > 1:
            pool, total = self.pack * self.batch_size, self.sizes.sum(1)
            parts = [order[i : i + pool] for i in range(0, n, pool)]
            order = np.concatenate([part[np.argsort(total[part], kind="stable")] for part in parts])
        return order

    def _cut(self, order: np.ndarray) -> list[list[int]]:
        """Cut an order into batches of at most `batch_size` patients and `token_budget` tokens."""
        if self.token_budget is None:
            return [order[i : i + self.batch_size].tolist() for i in range(0, len(order), self.batch_size)]
        batches: list[list[int]] = []
        longest = np.zeros(self.sizes.shape[1], dtype=np.int64)
        for row in order.tolist():
            grown = np.maximum(longest, self.sizes[row])
            full = batches and len(batches[-1]) == self.batch_size
            if not batches or full or self._padded(grown, len(batches[-1]) + 1) > self.token_budget:
                batches.append([])
                grown = self.sizes[row]
            batches[-1].append(row)
            longest = grown
        return batches

    @staticmethod
    def _padded(longest: np.ndarray, patients: int) -> int:
        return int(longest.sum()) * patients


def _split(batches: Sequence[list[int]], count: int, repeat: bool) -> list[list[int]]:
    """Halve the largest batches until there are `count`; with `repeat`, make up any shortage from the first batches."""
    heap = [(-len(batch), -i) for i, batch in enumerate(batches)]  # of equal batches, the last is split first
    heapq.heapify(heap)
    parts, following = dict(enumerate(batches)), len(batches)
    while len(parts) < count and -heap[0][0] > 1:
        i = -heapq.heappop(heap)[1]
        middle = (len(parts[i]) + 1) // 2
        parts[following] = parts[i][middle:]
        parts[i] = parts[i][:middle]
        for j in (i, following):
            heapq.heappush(heap, (-len(parts[j]), -j))
        following += 1
    split = [parts[i] for i in range(following)]
    return split + split[: count - len(split)] if repeat else split


def balanced_weights(groups: Iterable[object]) -> np.ndarray:
    """Weights (patients,) that give each group (a class, or patients with and without the event) the same total weight.

    Args:
        groups: Group of each patient; None or NaN = unknown, with the average patient's weight.
    """
    names = [None if group is None or group != group else str(group) for group in groups]
    counts = Counter(name for name in names if name is not None)
    mean_size = counts.total() / max(len(counts), 1)
    return np.array([1.0 if name is None else mean_size / counts[name] for name in names])
