"""Processes that share the work of a simulation. What they write does not depend on their number or on their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from types import TracebackType
from typing import Any

from tqdm import tqdm

from dmml.experiment.child_process import end_with_parent
from dmml.progress_bars import hide_bar
from dmml.usable_cores import usable_cores

WORTH_A_POOL = 8
"""Number of jobs below which starting processes takes longer than the jobs themselves"""


class Workers:
    """Runs jobs in as many processes as there are cores; these start with the first long list of jobs.

    Used as a context manager; jobs that have not begun are dropped when the block ends with an exception.

    Args:
        processes: Number of processes; None = all cores that this process may use.
    """

    def __init__(self, processes: int | None = None):
        self.processes = processes or usable_cores()
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def run(
        self, function: Callable[..., None], jobs: Sequence[tuple[Any, ...]], description: str, unit: str, done: int = 0
    ) -> None:
        """Call a function once for each job, with a progress bar.

        Args:
            function: A function of a module, so that a process can import it.
            jobs: Positional arguments of each call.
            description: What is made, for the bar.
            unit: What one job makes.
            done: Number of jobs that an earlier run has done; the bar counts them.
        """
        with tqdm(
            desc=description, total=done + len(jobs), initial=done, unit=unit, disable=hide_bar(), leave=False
        ) as bar:
            if self.processes == 1 or len(jobs) < WORTH_A_POOL:
                for job in jobs:
                    function(*job)
                    bar.update()
                return
            for result in as_completed([self._started().submit(function, *job) for job in jobs]):
                result.result()
                bar.update()

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.processes, mp_context=get_context("spawn"), initializer=end_with_parent
            )
        return self._pool
