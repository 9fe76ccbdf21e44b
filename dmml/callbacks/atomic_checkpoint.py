"""Checkpoints that are written completely or not at all, and are read with `weights_only=True`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a file next to the target and renames it: a killed process leaves the old checkpoint or the new one.

    Lightning's writer uses the system's temporary folder, which may be on another disk. A move from there is a copy,
    and a copy can be interrupted. URLs of object stores, where an upload only counts when it is complete, are left to
    Lightning.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; it is flushed to the disk before it replaces the old one."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        with part.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)

    def load_checkpoint(
        self, path: str | Path, map_location: Callable | None = lambda storage, loc: storage, weights_only: bool = True
    ) -> dict[str, Any]:
        """Read a checkpoint with `weights_only=True`, whatever the argument says."""
        return super().load_checkpoint(path, map_location, weights_only=True)
