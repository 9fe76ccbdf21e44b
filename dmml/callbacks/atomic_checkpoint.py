"""Checkpoints that are there whole or not at all, and are read without unpickling."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the place and renames: a process that is killed leaves the old checkpoint or the new one.

    Lightning's own writer goes through the system's temporary folder, which may be another disk; a move from there is
    a copy, and a copy can be cut short. URLs of object stores, where an upload counts only when it is complete, are
    left to Lightning.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; it is on the disk, not in a cache, before the old one goes."""
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
        """Read a checkpoint with `weights_only=True`, whatever was asked."""
        return super().load_checkpoint(path, map_location, weights_only=True)
