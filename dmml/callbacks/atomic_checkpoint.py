"""Checkpoints that are written completely or not at all, and are read with `weights_only=True`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from dmml.atomic_files import atomic_write

MapLocation = Callable | None


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints with `atomic_write`: a killed process leaves the old checkpoint or the new one.

    Lightning's writer uses the system's temporary folder, which may be on another disk. A move from there is a copy,
    and a copy can be interrupted. URLs of object stores, where an upload only counts when it is complete, are left to
    Lightning.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object | None = None
    ) -> None:
        """Write a checkpoint; it is flushed to the disk before it replaces the old one."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(path)
        # A killed process leaves its temporary file, which is as large as a checkpoint; one process writes those of a run.
        for leftover in path.parent.glob(f".{path.stem}.*.part{path.suffix}"):
            leftover.unlink(missing_ok=True)
        with atomic_write(path, durable=True) as partial:
            torch.save(checkpoint, partial)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: MapLocation = lambda storage, location: storage,
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        """Read a checkpoint with `weights_only=True`, whatever the argument says."""
        return super().load_checkpoint(path, map_location, weights_only=True)
