"""What a cluster or a user says to a run that is to stop: signals, kept until a step is done."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Trainer

STOPS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))
"""SIGTERM: preemption, time limit, `kill`; SIGINT: Ctrl-C; SIGUSR1 and SIGUSR2: `sbatch --signal=USR1@120`."""


class TrainingStopped(Exception):
    """Training stopped at a signal, and what was done is saved.

    Args:
        signum: The signal.
        checkpoint: Where the run goes on from.
    """

    def __init__(self, signum: int, checkpoint: str):
        super().__init__(f"stopped by {signal.Signals(signum).name}; saved {checkpoint}")
        self.signum, self.checkpoint = signum, checkpoint


class StopSignals:
    """Remembers the first signal that asks to stop; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.signum = 0
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Take the place of the handlers that are there, Lightning's among them."""
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in STOPS:
            self._before[signum] = signal.signal(signum, self._remember)

    def remove(self) -> None:
        """Put the former handlers back."""
        for signum, handler in self._before.items():
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        if self.signum and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signum = self.signum or signum

    def anywhere(self, trainer: Trainer) -> int:
        """The signal that any of the processes was sent; the same answer in each of them."""
        if trainer.world_size == 1:
            return self.signum
        told = torch.tensor(self.signum, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(told, op=torch.distributed.ReduceOp.MAX)
        return int(told)


def requeue(signum: int) -> str | None:
    """Ask SLURM to start this job again, where it runs under SLURM and was not stopped by hand.

    Returns:
        The job, or None when nothing was asked.
    """
    job = os.environ.get("SLURM_JOB_ID", "")
    if os.environ.get("SLURM_ARRAY_JOB_ID"):
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    # SIGTERM comes with `scancel` as well, and SLURM itself requeues what it preempts.
    if signum not in STOPS[2:] or not re.fullmatch(r"[0-9]+(_[0-9]+)?", job) or not shutil.which("scontrol"):
        return None
    subprocess.run(["scontrol", "requeue", job], check=False)
    return job
