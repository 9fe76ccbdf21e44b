"""Load of the machine by other processes while something is timed. Linux only."""

from __future__ import annotations

import os
import time
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_IDLE = (3, 4)  # columns of /proc/stat: idle, and waiting for a disk


class OtherLoad:
    """Measures how many cores other processes use while the block runs.

    Args:
        children: Processes started by this one, whose work does not count as that of others.

    Attributes:
        cores: Mean number of cores that other processes use.
        seconds: Wall time.
    """

    def __init__(self, *children: int):
        self._children = children

    def __enter__(self) -> OtherLoad:
        self._start, self._before = time.perf_counter(), self._others()
        return self

    def __exit__(self, *exception) -> None:
        self.seconds = time.perf_counter() - self._start
        self.cores = max(0.0, (self._others() - self._before) / self.seconds)

    def _others(self) -> float:
        """CPU seconds of the machine without those of this process and its children."""
        columns = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]  # which include those of guests
        busy = sum(int(value) for i, value in enumerate(columns) if i not in _IDLE) / _TICK
        return busy - time.process_time() - sum(_cpu_seconds(child) for child in self._children)


def _cpu_seconds(process: int) -> float:
    columns = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(columns[11]) + int(columns[12])) / _TICK
