"""Memory of a process as the Linux kernel reports it."""

from __future__ import annotations

from pathlib import Path


def kib(*names: str, file: str = "self/status") -> int:
    """Sum of the named lines of a file in /proc, in KiB.

    Raises:
        OSError: The file does not exist, e.g. because the process has ended.
        KeyError: A line is missing.
    """
    rows = (line.partition(":") for line in (Path("/proc") / file).read_text().splitlines())
    values = {name: value for name, _, value in rows}
    return sum(int(values[name].split()[0]) for name in names)
