"""Memory of a process as the Linux kernel reports it."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

GIB = 1024.0**2
"""In KiB, the kernel's unit"""


def kib(*names: str, file: str = "self/status") -> int:
    """Sum of the named lines of a file in /proc, in KiB.

    Raises:
        OSError: The file does not exist, e.g. because the process has ended.
        KeyError: A line is missing.
    """
    rows = (line.partition(":") for line in (Path("/proc") / file).read_text().splitlines())
    values = {name: value for name, _, value in rows}
    return sum(int(values[name].split()[0]) for name in names)


def peak_above(run: Callable[[], object]) -> float | None:
    """Largest growth of the process in GiB while `run` runs; None on systems without Linux's /proc."""
    if not Path("/proc/self/clear_refs").exists():
        run()
        return None
    gc.collect()
    # Otherwise freed memory that the process still holds would be reused without being counted.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = kib("VmRSS")
    run()
    return (kib("VmHWM") - before) / GIB
