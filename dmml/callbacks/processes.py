"""Exchange of data between the processes of a run, and the end of all processes when one fails."""

from __future__ import annotations

import signal
from typing import Any

import torch
from lightning.pytorch import Trainer


def gather(trainer: Trainer, mine: Any) -> list[Any]:
    """Return the objects of all processes in the order of their ranks; every process must call this."""
    if trainer.world_size == 1:
        return [mine]
    everyone: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(everyone, mine)
    return everyone


def end_others(trainer: Trainer) -> None:
    """End the processes that Lightning started from this one.

    Otherwise they would wait for this process in a collective operation until the backend's timeout. The launcher of a
    cluster (torchrun, srun) ends them itself, but Lightning's launcher ends them only at Ctrl-C.
    """
    launcher = trainer.strategy.launcher
    if getattr(launcher, "procs", None):
        launcher.kill(getattr(signal, "SIGKILL", signal.SIGTERM))
