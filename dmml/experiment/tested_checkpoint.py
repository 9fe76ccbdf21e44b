"""The checkpoint that `test` or `predict` runs, the run that owns it, and the folders that its results go to."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dmml.cohort.file_hashes import hash_of
from dmml.errors import InputError
from dmml.experiment.run_folder import run_of_checkpoint

RECORDS = {"test": "context.json", "predict": "provenance.json"}
"""File of a result that records its checkpoint, cohort and fold"""


@dataclass(frozen=True)
class TestedCheckpoint:
    """A checkpoint and the folder of its results: `<root>/test/<cohort>`, or `test/<cohort>_fold<k>` for one fold.

    Args:
        path: The checkpoint.
        typed_root: Folder typed as `--trainer.default_root_dir`; None = the run that owns the checkpoint. That is the
            parent of `checkpoints/`, or the checkpoint's own folder if it is not in a folder `checkpoints/`.
        overwrite: Whether the result of another checkpoint, cohort or fold may be replaced.
    """

    path: Path
    typed_root: Path | None = None
    overwrite: bool = False

    @cached_property
    def run(self) -> Path:
        """Folder of the run that owns the checkpoint."""
        return run_of_checkpoint(self.path)

    @property
    def root(self) -> Path:
        """The folder that holds `test/` and `predict/`."""
        return self.typed_root or self.run

    @cached_property
    def sha256(self) -> str:
        """First 16 digits of the checkpoint's hash."""
        return hash_of(self.path)

    def folder(self, verb: str, cohort: str, fold: int | None) -> Path:
        """Return the folder of a result.

        Args:
            verb: `test` or `predict`.
            cohort: Name of the cohort.
            fold: Fold of the cohort's split; None if all patients are tested.
        """
        return self.root / verb / (cohort if fold is None else f"{cohort}_fold{fold}")

    def check_result(self, verb: str, cohort: str, fold: int | None) -> Path:
        """Return the folder of a result, if the result may be written there.

        Raises:
            InputError: The folder holds the result of another checkpoint, cohort or fold, which may not be replaced.
        """
        folder = self.folder(verb, cohort, fold)
        if self.overwrite or not (folder / "predictions.csv").is_file():
            return folder
        record = _read_record(folder / RECORDS[verb])
        if difference := self._difference(record, cohort, fold):
            raise InputError(
                f"{folder}: holds the result of {difference}; give --overwrite to replace it, or "
                "--trainer.default_root_dir FOLDER to write this one elsewhere"
            )
        return folder

    def _difference(self, record: dict[str, Any], cohort: str, fold: int | None) -> str:
        """Describe the checkpoint, cohort or fold of an existing result that differs from this one; empty if none."""
        checkpoint = record.get("checkpoint") or {}
        if checkpoint.get("sha256") is None:
            return "a checkpoint that it does not name"
        if checkpoint["sha256"] != self.sha256:
            run = record.get("run")
            return f"another checkpoint ({checkpoint.get('path')}{f' of the run {run}' if run else ''})"
        if (record.get("cohort"), record.get("fold")) == (cohort, fold):
            return ""
        other_fold = "" if record.get("fold") is None else f", fold {record['fold']}"
        return f"another cohort or fold ({record.get('cohort')}{other_fold})"

    def record(self, folder: Path, cohort: str, fold: int | None) -> dict[str, Any]:
        """Return the origin of a result for its record. The run's path is relative, so that both can be moved."""
        return {
            "cohort": cohort,
            "fold": fold,
            "checkpoint": {"path": os.path.relpath(self.path.resolve(), self.run.resolve()), "sha256": self.sha256},
            "run_folder": os.path.relpath(self.run.resolve(), folder.resolve()),
        }


def _read_record(path: Path) -> dict[str, Any]:
    """Read a result's record; empty if it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
