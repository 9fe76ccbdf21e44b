"""What several processes of a run tell each other, and how one that fails takes the others with it."""

from __future__ import annotations

import signal
from typing import Any

import torch
from lightning.pytorch import Trainer


def gather(trainer: Trainer, mine: Any) -> list[Any]:
    """What each process has, in the order of their ranks; every process must ask."""
    if trainer.world_size == 1:
        return [mine]
    everyone: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(everyone, mine)
    return everyone


def end_others(trainer: Trainer) -> None:
    """End the processes that Lightning started from this one.

    They wait for this one in an operation that all must join, for as many minutes as the backend has patience. A launcher
    of the cluster's own (torchrun, srun) ends them itself; Lightning's ends them only at Ctrl-C.
    """
    launcher = trainer.strategy.launcher
    if getattr(launcher, "procs", None):
        launcher.kill(getattr(signal, "SIGKILL", signal.SIGTERM))
