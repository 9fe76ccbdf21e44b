"""The machine on which a benchmark ran, in words."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def describe_machine() -> str:
    """Processor, cores, memory and kernel."""
    return f"{processor()}, {os.cpu_count()} cores, {_memory()}, {platform.system()} {platform.release().split('-')[0]}"


def processor() -> str:
    """Name of the processor."""
    named = (value for name, value in _lines("/proc/cpuinfo") if name == "model name")
    return next(named, platform.processor() or platform.machine())


def _memory() -> str:
    kib = next((int(value.split()[0]) for name, value in _lines("/proc/meminfo") if name == "MemTotal"), 0)
    return f"{kib / 2**20:.0f} GiB of memory"


def _lines(path: str) -> list[tuple[str, str]]:
    """Names and values of a file in /proc; none on other systems."""
    lines = Path(path).read_text().splitlines() if Path(path).is_file() else []
    return [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
