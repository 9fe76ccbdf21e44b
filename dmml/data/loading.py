"""Data loaders of patients, with planned batches and worker processes that read ahead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from dmml.data.dataset import PatientDataset, PatientReader
from dmml.data.reading_process import outlive_signals
from dmml.data.samplers import PatientBatches, balanced_weights


@dataclass
class Loading:
    """How patients are batched and read; the fields are arguments of `MultimodalDataModule` with the same names."""

    batch_size: int = 8
    """Maximum number of patients per batch"""
    num_workers: int = 0
    """Number of worker processes that read ahead"""
    seed: int = 0
    """Seed of the order of the patients and of the draw of their tokens"""
    max_tokens: int | None = None
    """Maximum number of tokens per patient and magnification in training, where tokens are drawn anew each epoch and
    parents keep all their children; validation and test read all tokens"""
    token_budget: int | None = None
    """Maximum number of tokens per batch, including padding; a patient with more forms a batch alone"""
    pack: int = 1
    """Number of batches whose patients are sorted by size before they are cut into batches, which saves padding"""
    balance: bool = False
    """Whether to draw each class equally often, or patients with and without the event"""

    def loader(
        self,
        reader: PatientReader,
        patients: list[str],
        collate: Callable[..., Any],
        trainer: Trainer | None,
        groups: list[Any] | None = None,
        training: bool = False,
    ) -> DataLoader:
        """Make the loader of a part's patients.

        Args:
            reader: Reads the patients.
            patients: Ids of the patients.
            collate: Makes a batch from a list of patients.
            trainer: Gives the rank and the number of processes; None = a single process.
            groups: Class or event of each patient, for `balance`.
            training: Whether the loader is for training.
        """
        dataset = PatientDataset(reader, patients, self.max_tokens, self.seed)
        sampler = PatientBatches(
            dataset.sizes(self._needs_sizes(), training),
            self.batch_size,
            self.seed,
            training,
            self.pack,
            self.token_budget,
            balanced_weights(groups) if training and self.balance and groups is not None else None,
            rank=getattr(trainer, "global_rank", 0),
            world=getattr(trainer, "world_size", 1),
        )
        ahead = {"prefetch_factor": 2, "persistent_workers": True} if self.num_workers else {}
        return DataLoader(
            dataset,
            batch_size=None,  # the sampler yields whole batches
            sampler=sampler,
            collate_fn=collate,
            num_workers=self.num_workers,
            worker_init_fn=outlive_signals,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(self.seed),  # do not draw from the global generator
            **ahead,
        )

    def mean_batch(self, reader: PatientReader, patients: list[str]) -> float:
        """Average number of patients in a training batch, on one process.

        Args:
            reader: Gives the patients' numbers of tokens.
            patients: Ids of the patients.
        """
        if self.token_budget is None or not patients:
            return self.batch_size
        sizes = PatientDataset(reader, patients, self.max_tokens).sizes(look=True, training=True)
        batches = PatientBatches(sizes, self.batch_size, 0, True, self.pack, self.token_budget).plan(0)
        return sum(map(len, batches)) / len(batches)

    def _needs_sizes(self) -> bool:
        return self.pack > 1 or self.token_budget is not None
