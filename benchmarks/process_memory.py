"""What the kernel says of memory. Linux alone tells it."""

from __future__ import annotations

from pathlib import Path


def kib(*names: str, file: str = "self/status") -> int:
    """KiB that the lines of these names in a file of /proc add up to.

    Raises:
        OSError: There is no such file, e.g. because the process is gone.
        KeyError: A name has no line.
    """
    rows = (line.partition(":") for line in (Path("/proc") / file).read_text().splitlines())
    said = {name: value for name, _, value in rows}
    return sum(int(said[name].split()[0]) for name in names)
