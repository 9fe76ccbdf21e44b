"""Signals by which a cluster or a user stops a run; they are stored until the current step is done."""

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

STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
)
"""SIGTERM: preemption, time limit, `kill`; SIGINT: Ctrl-C; SIGUSR1 and SIGUSR2: `sbatch --signal=USR1@120`."""


class TrainingStopped(Exception):
    """Training was stopped by a signal, and its state has been saved.

    Args:
        signum: Number of the signal.
        checkpoint: Path of the checkpoint from which the run can be resumed.
    """

    def __init__(self, signum: int, checkpoint: str):
        super().__init__(f"stopped by {signal.Signals(signum).name}; saved {checkpoint}")
        self.signum, self.checkpoint = signum, checkpoint


class StopSignals:
    """Stores the first signal that requests a stop; a Ctrl-C after that interrupts at once."""

    def __init__(self) -> None:
        self.signum = 0
        self._handlers: dict[int, Any] = {}

    def install(self) -> None:
        """Replace the current handlers, including Lightning's; does nothing outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in STOP_SIGNALS:
            self._handlers[signum] = signal.signal(signum, self._remember)

    def remove(self) -> None:
        """Restore the previous handlers."""
        for signum, handler in self._handlers.items():
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)
        self._handlers = {}

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        if self.signum and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signum = self.signum or signum

    def on_any_process(self, trainer: Trainer) -> int:
        """Return the signal that any process has received, or 0; the result is the same on all of them."""
        if trainer.world_size == 1:
            return self.signum
        signum = torch.tensor(self.signum, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(signum, op=torch.distributed.ReduceOp.MAX)
        return int(signum)


def requeue(signum: int) -> str | None:
    """Ask SLURM to requeue this job if it runs under SLURM and was stopped by SIGUSR1 or SIGUSR2.

    Returns:
        The id of the job, or None if it was not requeued.
    """
    job = os.environ.get("SLURM_JOB_ID", "")
    if os.environ.get("SLURM_ARRAY_JOB_ID"):
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    # Not at SIGTERM: `scancel` sends it as well, and SLURM requeues preempted jobs by itself.
    if signum not in STOP_SIGNALS[2:] or not re.fullmatch(r"[0-9]+(_[0-9]+)?", job) or not shutil.which("scontrol"):
        return None
    subprocess.run(["scontrol", "requeue", job], check=False)
    return job
