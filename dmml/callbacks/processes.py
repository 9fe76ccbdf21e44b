"""Exchange of data between the processes of a run, and the end of all processes when one fails."""

from __future__ import annotations

import signal
from typing import Any, TypeVar

import torch
from lightning.pytorch import Trainer

T = TypeVar("T")


def gather(trainer: Trainer, value: T) -> list[T]:
    """Return the values of all processes in the order of their ranks; every process must call this."""
    if trainer.world_size == 1:
        return [value]
    values: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(values, value)
    return values


def end_others(trainer: Trainer) -> None:
    """End the processes that Lightning started from this one.

    Otherwise they would wait for this process in a collective operation until the backend's timeout. The launcher of a
    cluster (torchrun, srun) ends them itself, but Lightning's launcher ends them only at Ctrl-C.
    """
    launcher = trainer.strategy.launcher
    if launcher is not None and getattr(launcher, "procs", None):
        launcher.kill(getattr(signal, "SIGKILL", signal.SIGTERM))
