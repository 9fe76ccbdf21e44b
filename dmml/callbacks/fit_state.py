"""State of a fit that Lightning keeps private, or neither saves nor restores; `docs/decisions/resuming.md` lists it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any, Protocol, cast

import torch
from lightning.pytorch import Callback, Trainer

Sums = dict[str, list[torch.Tensor]]
"""{metric: [weighted sum, weight]} of the means that an epoch accumulates"""
_COUNTERS = ("ready", "started", "processed", "completed")


class _TrainerAttributes(Protocol):
    """Attributes that a trainer gets from its connectors, which is why its class does not declare them."""

    callbacks: list[Callback]
    fast_dev_run: bool | int


class _EpochCounter(Protocol):
    """Numbers of epochs that are ready, started, processed and completed; the type of Lightning's names two of them."""

    processed: int


def callbacks_of(trainer: Trainer) -> list[Callback]:
    """Return the callbacks of a trainer."""
    return cast(_TrainerAttributes, trainer).callbacks


def is_trial(trainer: Trainer) -> bool:
    """Whether the trainer only tries a few batches (`fast_dev_run`) and writes nothing."""
    return bool(cast(_TrainerAttributes, trainer).fast_dev_run)


def has_stepped(trainer: Trainer) -> bool:
    """Whether the fit has made an optimiser step, in this process or before it was resumed."""
    return bool(trainer.fit_loop.epoch_loop._batches_that_stepped)


def is_one_step_before_validation(trainer: Trainer, batch_idx: int) -> bool:
    """Whether one optimiser step of the epoch is left, and a validation follows it."""
    last = trainer.num_training_batches - 1
    if is_trial(trainer) or not trainer.enable_validation or trainer.val_check_batch != last + 1:
        return False
    is_due = trainer.fit_loop.epoch_loop._should_check_val_epoch()
    return is_due and batch_idx + trainer.accumulate_grad_batches >= last


def skip_finished(trainer: Trainer, is_within_epoch: bool) -> None:
    """Restart the reading of training patients at the epoch and batch at which the fit is resumed.

    The loader was made, and its workers began to read, before Lightning had restored the progress of the run.

    Args:
        trainer: The trainer, after it has loaded the checkpoint.
        is_within_epoch: Whether the checkpoint was saved within an epoch rather than between two.
    """
    loop = trainer.fit_loop
    if not is_within_epoch:
        loop.restarting = False  # the next epoch starts as usual
    n_batches = loop.epoch_loop.batch_progress.current.ready if is_within_epoch else 0
    epoch = cast(_EpochCounter, loop.epoch_progress.current).processed
    if loop._combined_loader is None or loop._data_fetcher is None:
        raise RuntimeError("the loaders of training patients are not set up yet")
    for loader in loop._combined_loader.flattened:
        if hasattr(loader.sampler, "resume"):
            loader.sampler.resume(epoch, n_batches)
    iter(loop._data_fetcher)


@contextmanager
def next_epoch_not_started(trainer: Trainer) -> Iterator[None]:
    """Count the epoch that is about to start as not started while the block saves a checkpoint."""
    progress = trainer.fit_loop.epoch_progress
    counters = (progress.total, progress.current)
    before = [dict(vars(counter)) for counter in counters]
    for counter in counters:
        vars(counter).update(dict.fromkeys(_COUNTERS, cast(_EpochCounter, counter).processed))
    try:
        yield
    finally:
        for counter, values in zip(counters, before, strict=True):
            vars(counter).update(values)


def epoch_sums(trainer: Trainer) -> Sums:
    """Return the sum and the weight of every mean that is accumulated over the epoch."""
    sums = {}
    for name, metric in trainer.fit_loop.epoch_loop._results.items():
        if metric.meta.on_epoch and metric.is_tensor and metric.meta.is_mean_reduction:
            sums[name] = [metric.value.detach().cpu().clone(), metric.cumulated_batch_size.detach().cpu().clone()]
    return sums


def add_epoch_sums(trainer: Trainer, saved: Sums) -> None:
    """Add saved sums to the current ones and remove them from `saved`; metrics not logged yet stay in it."""
    results = trainer.fit_loop.epoch_loop._results
    for name in [name for name in saved if name in results]:
        metric, (value, weight) = results[name], saved.pop(name)
        metric.value = value.to(metric.value) + metric.value
        metric.cumulated_batch_size = weight.to(metric.value.device) + metric.cumulated_batch_size


def checkpoint_in_memory(trainer: Trainer) -> dict[str, Any]:
    """Return the checkpoint of this moment in CPU memory, as a copy that training does not modify."""
    return cast(dict[str, Any], _copied_to_cpu(trainer._checkpoint_connector.dump_checkpoint()))


def _copied_to_cpu(state: object) -> object:
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        copied = copy(state)  # keeps its type: OrderedDict and other subclasses of dict
        copied.update({key: _copied_to_cpu(value) for key, value in state.items()})
        return copied
    if type(state) is list:
        return [_copied_to_cpu(value) for value in state]
    if type(state) is tuple:
        return tuple(_copied_to_cpu(value) for value in state)
    return state
