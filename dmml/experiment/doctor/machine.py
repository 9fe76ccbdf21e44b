"""Describes the machine that a run would use."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from dmml.usable_cores import usable_cores


def describe_machine(root: str | Path) -> str:
    """Describe the machine in a line: versions, processors, accelerators, memory, and free space for the runs.

    Args:
        root: Folder of the runs; it need not exist.
    """
    from importlib.metadata import version

    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    existing = Path(root).resolve()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free / 2**30
    return (
        f"torch {torch.__version__}, lightning {version('lightning')}, {usable_cores()} processors, {', '.join(gpus) or 'no GPU'}, "
        f"{memory:.0f} GiB memory, {free:.0f} GiB free under {root}"
    )
