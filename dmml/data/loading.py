"""A loader of patients: batches by plan, and processes that read ahead."""

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
    """How patients become batches; the arguments of `MultimodalDataModule` of the same names."""

    batch_size: int = 8
    """most patients a batch"""
    num_workers: int = 0
    """processes that read ahead"""
    seed: int = 0
    """of the order of the patients, and of the draw of their tokens"""
    max_tokens: int | None = None
    """most tokens of a patient at a magnification in training: parents with all their children, drawn anew each epoch;
    validation and test read all"""
    token_budget: int | None = None
    """most tokens a batch, padding counted; a patient with more is alone"""
    pack: int = 1
    """patients of so many batches are sorted by size before they are cut into batches, which saves padding"""
    balance: bool = False
    """draw classes, or deaths and those followed up, equally often"""

    def loader(
        self,
        reader: PatientReader,
        patients: list[str],
        collate: Callable[..., Any],
        trainer: Trainer | None,
        groups: list[Any] | None = None,
        training: bool = False,
    ) -> DataLoader:
        """The loader of a part.

        Args:
            reader: Reads them.
            patients: Their ids.
            collate: Makes a batch of them.
            trainer: Says which process this is, and where a resumed run stands.
            groups: Class or event of each patient, for `balance`.
            training: Whether they are learned from.
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
            batch_size=None,  # the sampler hands out whole batches
            sampler=sampler,
            collate_fn=collate,
            num_workers=self.num_workers,
            worker_init_fn=outlive_signals,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(self.seed),  # a loader draws a seed; not from the run's generator
            **ahead,
        )

    def mean_batch(self, reader: PatientReader, patients: list[str]) -> float:
        """Patients of a training batch on average, on one process.

        Args:
            reader: Knows their tokens.
            patients: Their ids.
        """
        if self.token_budget is None or not patients:
            return self.batch_size
        sizes = PatientDataset(reader, patients, self.max_tokens).sizes(look=True, training=True)
        batches = PatientBatches(sizes, self.batch_size, 0, True, self.pack, self.token_budget).plan(0)
        return sum(map(len, batches)) / len(batches)

    def _needs_sizes(self) -> bool:
        return self.pack > 1 or self.token_budget is not None
