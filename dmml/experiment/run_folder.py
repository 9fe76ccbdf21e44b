"""A run's folder: which run it belongs to, whether that run is finished, and what it was made from."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dmml._version import __version__
from dmml.atomic_files import write_json
from dmml.errors import InputError

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule

PACKAGES = ("torch", "lightning", "torchmetrics", "timm", "zarr", "numpy", "pandas")


class FittedModule(Protocol):
    """A model with a record of what was fitted on its training patients."""

    fitted: dict[str, Any]


class RunFolder:
    """`runs/<name>`: config.yaml, checkpoints/{best,last}.ckpt, metrics.csv, provenance.json, test/<cohort>[_fold<k>]/.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.best, self.last = self.checkpoints / "best.ckpt", self.checkpoints / "last.ckpt"
        self._provenance = self.path / "provenance.json"

    @property
    def name(self) -> str:
        """Name of the run in results."""
        return self.path.resolve().name

    def provenance(self) -> dict[str, Any]:
        """Read the record of the run; empty if there is none."""
        try:
            return json.loads(self._provenance.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return {}

    def claim(self, digest: str, overwrite: bool, command: str, resume: bool = False) -> Path | None:
        """Start a run in this folder, or resume one.

        Only the first of several processes writes; the others reach the same answer.

        Args:
            digest: Hash of the configuration.
            overwrite: Whether existing results may be deleted.
            command: The typed command.
            resume: Whether to resume an unfinished run.

        Returns:
            The checkpoint to resume from; None for a new run.

        Raises:
            InputError: See `check_free`.
        """
        if not is_first_process():
            return self.last if resume and not overwrite and self.last.is_file() else None
        if overwrite:
            for folder in (self.checkpoints, self.path / "test", self.path / "predict"):
                shutil.rmtree(folder, ignore_errors=True)
            logs = [
                file for pattern in ("events.out.tfevents.*", "hpc_ckpt_*.ckpt") for file in self.path.glob(pattern)
            ]
            for file in (self.path / "metrics.csv", self._provenance, *logs):
                file.unlink(missing_ok=True)
        self.check_free(digest, resume)
        if self.last.is_file():
            record = self.provenance()
            self._write(record | {"resumed": [*record.get("resumed", []), now()]})
            return self.last
        self._write({"digest": digest, "command": command, "started": now(), "finished": None})
        return None

    def check_free(self, digest: str, resume: bool = False) -> None:
        """Check that a run can start in this folder, or resume the one that it holds.

        Args:
            digest: Hash of the configuration.
            resume: Whether to resume an unfinished run.

        Raises:
            InputError: The folder holds a finished run, an unfinished run of another configuration, or an unfinished
                run that was not to be resumed.
        """
        record = self.provenance()
        if record.get("finished"):
            raise InputError(
                f"{self.path}: holds a finished run; give --overwrite to replace it, or another trainer.default_root_dir"
            )
        if not self.last.is_file():
            return
        if record.get("digest") != digest:
            raise InputError(
                f"{self.path}: holds an unfinished run of another configuration ({record.get('command')}); "
                "add --resume to that command to finish it, or give --overwrite to replace it"
            )
        if not resume and is_first_process():
            raise InputError(
                f"{self.path}: holds an unfinished run, saved {_age(self.last)} ago; repeat the command with --resume to "
                "continue it, or with --overwrite to start again"
            )

    def finish(self, model: FittedModule, data: LightningDataModule, seed: bool | int | None = None) -> None:
        """Mark the run as finished, with versions, hashes of the inputs, and both seeds.

        Args:
            model: The fitted model.
            data: Its data module, whose seed determines order and draw of patients.
            seed: `seed_everything`, which determines initial weights and dropout.
        """
        from dmml.cohort.cohort_summary import rna_provenance
        from dmml.data.module import MultimodalDataModule
        from dmml.experiment.patient_flow import FITTED, patient_flow

        self._write(
            self.provenance()
            | {
                "finished": now(),
                "versions": versions(),
                "seed_everything": seed,
                "data_seed": getattr(getattr(data, "config", None), "seed", None),
                "model": type(model).__name__,
                "cohort": getattr(data, "name", None),
                "counts": {part: data.counts(part) for part in ("train", "val")} if hasattr(data, "counts") else {},
                "flow": patient_flow(data, FITTED) if isinstance(data, MultimodalDataModule) else None,
                "encoder": model.fitted.get("encoder"),
                "hashes": model.fitted.get("hashes"),
                "rna": rna_provenance(getattr(data, "cohort", None)),
            }
        )

    def _write(self, content: dict[str, Any]) -> None:
        write_json(self._provenance, content)


def versions() -> dict[str, str]:
    """Return the versions of dmml, Python and the packages that the results depend on."""
    return {"dmml": __version__, "python": platform.python_version()} | {p: version(p) for p in PACKAGES}


def run_of_checkpoint(checkpoint: str | Path) -> Path:
    """Return the run that owns a checkpoint: the parent of `checkpoints/`, else the folder of the checkpoint."""
    folder = Path(checkpoint).resolve().parent
    folder = folder.parent if folder.name == "checkpoints" else folder
    here = Path.cwd().resolve()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def is_first_process() -> bool:
    """Whether this process is the one that writes, judged by the ranks that torchrun, SLURM and Lightning set."""
    # All ranks count: processes that Lightning starts within a SLURM task inherit that task's rank.
    ranks = (os.environ.get(name) or "0" for name in ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK"))
    return not any(map(int, ranks))


def _age(path: Path) -> str:
    """Return how long ago a file was written, as text."""
    minutes = int((time.time() - path.stat().st_mtime) // 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h" if minutes < 2880 else f"{minutes // 1440} days"


def now() -> str:
    """Return the current time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
