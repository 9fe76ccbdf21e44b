"""Data loaders of patients, with planned batches and worker processes that read ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from torch.utils.data import DataLoader

from dmml.data.data_config import Loading
from dmml.data.dataset import Patient, PatientDataset, PatientReader
from dmml.data.reading_process import outlive_signals
from dmml.data.samplers import PatientBatches, balanced_weights
from dmml.types import Batch

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


def make_loader(
    loading: Loading,
    reader: PatientReader,
    patients: list[str],
    collate: Callable[[list[Patient] | Patient], Batch],
    trainer: Trainer | None,
    groups: Iterable[object] | None = None,
    training: bool = False,
) -> DataLoader:
    """Make the loader of a part's patients.

    Args:
        loading: How patients are read and put into batches.
        reader: Reads the patients.
        patients: Ids of the patients.
        collate: Makes a batch from a list of patients.
        trainer: Gives the rank and the number of processes; None = a single process.
        groups: Class or event of each patient, for `balance`.
        training: Whether the loader is for training.
    """
    dataset = PatientDataset(reader, patients, loading.max_tokens, loading.seed)
    sampler = PatientBatches(
        dataset.sizes(loading.needs_sizes, training),
        loading.batch_size,
        loading.seed,
        training,
        loading.pack,
        loading.token_budget,
        balanced_weights(groups) if training and loading.balance and groups is not None else None,
        rank=getattr(trainer, "global_rank", 0),
        world=getattr(trainer, "world_size", 1),
    )
    reads_ahead = loading.num_workers > 0
    return DataLoader(
        dataset,
        batch_size=None,  # the sampler yields whole batches
        sampler=sampler,
        collate_fn=collate,
        num_workers=loading.num_workers,
        worker_init_fn=outlive_signals,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(loading.seed),  # do not draw from the global generator
        prefetch_factor=2 if reads_ahead else None,
        persistent_workers=reads_ahead,
    )


def mean_batch_size(loading: Loading, reader: PatientReader, patients: list[str]) -> float:
    """Average number of patients in a training batch, on one process.

    Args:
        loading: How patients are put into batches.
        reader: Gives the patients' numbers of tokens.
        patients: Ids of the patients.
    """
    if loading.token_budget is None or not patients:
        return loading.batch_size
    sizes = PatientDataset(reader, patients, loading.max_tokens).sizes(from_store=True, training=True)
    batches = PatientBatches(sizes, loading.batch_size, 0, True, loading.pack, loading.token_budget).plan(0)
    return sum(map(len, batches)) / len(batches)
