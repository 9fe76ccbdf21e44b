"""A process that reads ahead: what asks a run to stop is the run's to answer, not its readers'."""

from __future__ import annotations

import os
import signal
import threading

_STOPS = {getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)}
"""As `dmml.callbacks.stop_signals.STOPS`."""


def outlive_signals(worker: int) -> None:
    """Begin a reading process that no signal to the whole group of processes ends.

    torchrun, Ctrl-C and a cluster tell every process of a run to stop. A reader that obeyed would take the step from
    the run that is about to finish and save it. A reader still ends with its parent (PyTorch watches for that), and
    when the parent itself says so, which PyTorch does with SIGTERM where a reader does not end by itself.

    Args:
        worker: Its number; PyTorch gives it to every `worker_init_fn`.
    """
    if not hasattr(signal, "sigwaitinfo"):  # macOS: no telling who sent a signal; out of the way of those to the group
        if hasattr(os, "setsid"):
            os.setsid()
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)  # threads begun from here on inherit it
    threading.Thread(target=_obey_parent, args=(os.getppid(),), daemon=True, name="signals").start()


def _obey_parent(parent: int) -> None:
    while True:
        told = signal.sigwaitinfo(_STOPS)
        if told.si_signo == signal.SIGTERM and told.si_pid == parent:
            os._exit(0)
