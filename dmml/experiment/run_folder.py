"""A run's folder: who owns it, whether it is finished, and what it was made from."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dmml._version import __version__
from dmml.errors import InputError

PACKAGES = ("torch", "lightning", "torchmetrics", "timm", "zarr", "numpy", "pandas")


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
        """What is written of the run; empty where there is none."""
        try:
            return json.loads(self._provenance.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return {}

    def claim(self, digest: str, overwrite: bool, command: str, resume: bool = False) -> Path | None:
        """Begin a run here, or go on with one.

        Only the first of several processes writes; the others come to the same answer.

        Args:
            digest: Of the configuration.
            overwrite: Whether what is there may be deleted.
            command: As typed.
            resume: Whether to go on with an unfinished run.

        Returns:
            The checkpoint to go on from; None for a new run.

        Raises:
            InputError: See `refuse_taken`.
        """
        if not is_first_process():
            return self.last if resume and not overwrite and self.last.is_file() else None
        if overwrite:
            for part in (self.checkpoints, self.path / "test", self.path / "predict"):
                shutil.rmtree(part, ignore_errors=True)
            left = [file for kind in ("events.out.tfevents.*", "hpc_ckpt_*.ckpt") for file in self.path.glob(kind)]
            for file in (self.path / "metrics.csv", self._provenance, *left):
                file.unlink(missing_ok=True)
        self.refuse_taken(digest, resume)
        if self.last.is_file():
            there = self.provenance()
            self._write(there | {"resumed": [*there.get("resumed", []), now()]})
            return self.last
        self._write({"digest": digest, "command": command, "started": now(), "finished": None})
        return None

    def refuse_taken(self, digest: str, resume: bool = False) -> None:
        """Refuse to begin a run where another one is.

        Args:
            digest: Of the configuration.
            resume: Whether to go on with an unfinished run.

        Raises:
            InputError: A finished run is here, or one of another configuration, or an unfinished one that nobody asked
                to go on with.
        """
        there = self.provenance()
        if there.get("finished"):
            raise InputError(
                f"{self.path}: holds a finished run; give --overwrite to replace it, or another trainer.default_root_dir"
            )
        if not self.last.is_file():
            return
        if there.get("digest") != digest:
            raise InputError(
                f"{self.path}: holds an unfinished run of another configuration ({there.get('command')}); "
                "run that one with --resume to finish it, or give --overwrite"
            )
        if not resume and is_first_process():
            raise InputError(
                f"{self.path}: holds an unfinished run, saved {_age(self.last)} ago; the same command with --resume goes "
                "on with it, with --overwrite begins anew"
            )

    def finish(self, model: Any, data: Any, seed: Any = None) -> None:
        """Mark the run as finished, with versions, hashes of what went in, and both seeds.

        Args:
            model: That was fitted.
            data: Its data module, whose seed is that of the order and draw of patients.
            seed: `seed_everything`: of first weights and dropout.
        """
        from dmml.cohort.account import rna_account

        self._write(
            self.provenance()
            | {
                "finished": now(),
                "versions": versions(),
                "seed_everything": seed,
                "data_seed": getattr(data, "seed", None),
                "model": type(model).__name__,
                "cohort": getattr(data, "name", None),
                "counts": {part: data.counts(part) for part in ("train", "val")} if hasattr(data, "counts") else {},
                "encoder": model.fitted.get("encoder"),
                "hashes": model.fitted.get("hashes"),
                "rna": rna_account(getattr(data, "cohort", None)),
            }
        )

    def _write(self, content: dict[str, Any]) -> None:
        write_json(self._provenance, content)


def versions() -> dict[str, str]:
    """Of dmml, Python and the packages that figures depend on."""
    return {"dmml": __version__, "python": platform.python_version()} | {p: version(p) for p in PACKAGES}


def run_of_checkpoint(checkpoint: str | Path) -> Path:
    """The run that owns a checkpoint: the parent of `checkpoints/`, else the checkpoint's own folder."""
    folder = Path(checkpoint).resolve().parent
    folder = folder.parent if folder.name == "checkpoints" else folder
    here = Path.cwd().resolve()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def is_first_process() -> bool:
    """Whether this is the process of several that writes; by what torchrun, SLURM and Lightning tell their processes."""
    # All of them: the processes that Lightning begins within a SLURM task inherit that task's rank.
    ranks = (os.environ.get(name) or "0" for name in ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK"))
    return not any(map(int, ranks))


def _age(path: Path) -> str:
    """How long ago a file was written, in words."""
    minutes = int((time.time() - path.stat().st_mtime) // 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h" if minutes < 2880 else f"{minutes // 1440} days"


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
    part.replace(path)


def now() -> str:
    """The time, to the second, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
