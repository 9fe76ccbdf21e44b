"""The cores that this process may use. Standard library only."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Return the number of cores, which a scheduler or `taskset` may have limited for this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
