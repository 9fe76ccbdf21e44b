"""Worker processes that read ahead: signals to stop are handled by the run, not by its workers."""

from __future__ import annotations

import os
import signal
import threading

_STOPS = {getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)}
"""The signals of `dmml.callbacks.stop_signals.STOP_SIGNALS`."""


def outlive_signals(worker: int) -> None:
    """Start a worker process that is not ended by signals to the whole process group.

    torchrun, Ctrl-C and a cluster signal every process of a run to stop. If a worker obeyed, the run could no longer
    finish its current step and save it. A worker still ends with its parent (PyTorch watches for that), and when the
    parent sends it SIGTERM, which PyTorch does if a worker does not end by itself.

    Args:
        worker: Number of the worker, which PyTorch passes to every `worker_init_fn`.
    """
    if not hasattr(signal, "sigwaitinfo"):  # macOS cannot tell who sent a signal: leave the group that is signalled
        if hasattr(os, "setsid"):
            os.setsid()
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)  # threads started from here on inherit the mask
    threading.Thread(target=_obey_parent, args=(os.getppid(),), daemon=True, name="signals").start()


def _obey_parent(parent: int) -> None:
    while True:
        received = signal.sigwaitinfo(_STOPS)
        if received.si_signo == signal.SIGTERM and received.si_pid == parent:
            os._exit(0)
