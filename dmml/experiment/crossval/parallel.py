"""Fits the folds of a cross-validation in processes of their own, whose log appears in that of the first process.

These processes share one machine. On a cluster, each fold is a job of its own: `dmml crossval --only-fold K` fits fold K,
and once all jobs have ended, `dmml crossval --collect` evaluates all folds (docs/scaling.md).
"""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from logging.handlers import QueueHandler, QueueListener
from multiprocessing.context import SpawnContext
from multiprocessing.queues import Queue

from dmml.experiment.child_process import end_with_parent
from dmml.experiment.crossval.plan import CrossvalPlan
from dmml.experiment.crossval.run import FoldRunner


def fit_folds_in_parallel(plan: CrossvalPlan, jobs: int) -> None:
    """Fit folds in separate processes, `jobs` at a time; several GPUs are assigned to the folds in turn."""
    import torch

    devices = torch.cuda.device_count()
    context = multiprocessing.get_context("spawn")
    level = logging.getLogger("dmml").getEffectiveLevel()
    with (
        _log_of_children(context) as queue,
        ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_child, initargs=(queue, level)) as pool,
    ):
        fits = [
            pool.submit(_fit_fold, replace(plan, device=i % devices if devices > 1 else None), fold)
            for i, fold in enumerate(plan.folds)
        ]
        for fit in fits:
            fit.result()


class _HandledHere(logging.Handler):
    """Passes the records of other processes to the loggers of this one, as if they had been logged here."""

    def emit(self, record: logging.LogRecord) -> None:
        """Handle one record."""
        logging.getLogger(record.name).handle(record)


@contextmanager
def _log_of_children(context: SpawnContext) -> Iterator[Queue[logging.LogRecord]]:
    """Yield a queue whose records are handled in this process while the block runs."""
    queue = context.Queue()
    listener = QueueListener(queue, _HandledHere())
    listener.start()
    try:
        yield queue
    finally:
        listener.stop()


def _start_child(queue: Queue[logging.LogRecord], level: int) -> None:
    """Send everything that dmml logs in this process to the queue, and end with the first process."""
    end_with_parent()
    logger = logging.getLogger("dmml")
    logger.setLevel(level)
    logger.addHandler(QueueHandler(queue))
    logger.propagate = False


def _fit_fold(plan: CrossvalPlan, fold: int) -> None:
    FoldRunner(plan).run(fold)
