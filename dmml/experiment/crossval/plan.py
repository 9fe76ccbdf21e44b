"""The plan of a cross-validation, and the folder that belongs to it. Nothing here imports torch."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dmml._version import __version__
from dmml.cohort.clinical.table import Clinical
from dmml.cohort.file_hashes import file_hashes
from dmml.cohort.splits.make_folds import make_folds
from dmml.cohort.splits.split import Split, split_of_folds
from dmml.errors import InputError
from dmml.experiment.crossval.models import JOINED, LINEAR

FOLDS = {"folds": 5, "stratify": True, "seed": 0}
"""Default split, if the config names none"""
_PLACE = ("fold", "num_workers", "cache_gib")
_RUNNING = (
    "default_root_dir",
    "enable_progress_bar",
    "enable_model_summary",
    "logger",
    "devices",
    "num_nodes",
    "strategy",
)
"""Options that change where and how fast something is computed, but not the result"""


class Unit(NamedTuple):
    """One fold of one repeat, with one seed."""

    repeat: int
    fold: int
    seed: int

    def folder(self, out: Path) -> Path:
        """Folder of its models. The first repeat and seed need no subfolder, so that more can be added later."""
        place = out / f"repeat_{self.repeat}" if self.repeat else out
        place = place / f"fold_{self.fold}"
        return place / f"seed_{self.seed}" if self.seed else place

    def __str__(self) -> str:
        """Name in progress lines and messages."""
        more = [f"repeat {self.repeat}"] if self.repeat else []
        return ", ".join([*more, f"fold {self.fold}", *([f"seed {self.seed}"] if self.seed else [])])


@dataclass(frozen=True)
class Plan:
    """Everything that a process needs to fit a fold.

    Attributes:
        out: Folder of the cross-validation.
        model: The config's model section.
        student: The student's model section, or None.
        data: Arguments of the data module, including a split.
        trainer: The config's trainer section.
        student_trainer: The student's trainer section.
        student_batch_size: `batch_size` of the student's data section.
        models: Names of the models, in the order of fitting.
        folds: Numbers of the folds.
        seeds: Number of seeds.
        repeats: Number of repeats.
        base_seed: `seed_everything` of the config.
        cross_fit: Whether students learn from teachers that were not fitted to the patient.
    """

    out: Path
    model: dict[str, Any]
    student: dict[str, Any] | None
    data: dict[str, Any]
    trainer: dict[str, Any]
    student_trainer: dict[str, Any]
    student_batch_size: int | None
    models: list[str]
    folds: list[int]
    seeds: int = 1
    repeats: int = 1
    base_seed: int = 0
    cross_fit: bool = False
    device: int | None = field(default=None, compare=False)

    def units(self, only_fold: int | None = None) -> Iterator[Unit]:
        """Yield all units, or those of one fold."""
        for repeat in range(self.repeats):
            for fold in self.folds if only_fold is None else [only_fold]:
                for seed in range(self.seeds):
                    yield Unit(repeat, fold, seed)

    def missing(self) -> dict[str, list[str]]:
        """Return {model: units that are not finished}."""
        found: dict[str, list[str]] = {}
        for unit in self.units():
            for name in self.models:
                if not (self.place(unit, name) / "done.json").is_file():
                    found.setdefault(name, []).append(str(unit))
        return found

    def place(self, unit: Unit, model: str) -> Path:
        """Folder of a fitted model; a model without randomness is fitted once for all seeds."""
        if model.removesuffix(JOINED) in LINEAR:
            unit = unit._replace(seed=0)
        return unit.folder(self.out) / model

    def seed_of(self, unit: Unit, model: str) -> int:
        """Seed of one fit, which does not depend on what was fitted before."""
        text = f"{self.base_seed}|{unit.repeat}|{unit.fold}|{unit.seed}|{model}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 2**31

    def split_of(self, repeat: int, clinical: Clinical, first: Split) -> Split:
        """Return the split of a repeat; the first repeat has the split of the config.

        Args:
            repeat: Number of the repeat.
            clinical: The cohort.
            first: The split of repeat 0.
        """
        if repeat == 0:
            return first
        given = self.data["split"]
        by_site, seed = bool(given.get("site")), int(given.get("seed", 0)) + repeat
        folds = make_folds(clinical, int(given.get("folds", 5)), bool(given.get("stratify", True)), by_site, seed)
        return split_of_folds(folds, f"{clinical.source}, repeat {repeat}", by_site)

    # ---- the folder --------------------------------------------------------------------------------------------

    def made_from(self) -> dict[str, Any]:
        """Everything that determines the result, including dmml's version and the files' hashes; one per folder."""
        sections = {
            "dmml": __version__,
            "model": self.model,
            "student": self.student,
            "data": {key: value for key, value in self.data.items() if key not in _PLACE},
            "trainer": {key: value for key, value in self.trainer.items() if key not in _RUNNING},
            "student trainer": {key: value for key, value in self.student_trainer.items() if key not in _RUNNING},
            "student batch_size": self.student_batch_size,
            "seed_everything": self.base_seed,
            "cross_fit": self.cross_fit or None,
            "file": file_hashes(self.data),
        }
        return json.loads(json.dumps(sections, default=str))

    def claim(self, overwrite: bool = False) -> None:
        """Start the cross-validation in its folder, or resume it.

        Raises:
            InputError: The folder belongs to another configuration or cohort.
        """
        record = self.out / "plan.json"
        if overwrite:
            _clear(self.out)
        mine = self.made_from()
        if record.is_file():
            theirs = json.loads(record.read_text(encoding="utf-8"))
            if found := difference(theirs, mine):
                raise InputError(
                    f"{self.out}: was begun with another configuration or cohort ({found}); "
                    "give another --out, or --overwrite to begin anew"
                )
            return
        if self.out.is_dir() and any(self.out.glob("fold_*")):
            raise InputError(f"{self.out}: holds folds but no plan.json; give another --out, or --overwrite")
        self.out.mkdir(parents=True, exist_ok=True)
        part = record.with_name(f".plan.{os.getpid()}.part")  # jobs of an array may start at the same moment
        part.write_text(json.dumps(mine, indent=2) + "\n", encoding="utf-8")
        part.replace(record)


def difference(old: Any, new: Any, where: str = "") -> str:
    """Describe the first difference between two plans; empty if there is none."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            name = f"{where}.{key}".lstrip(".").replace(".init_args", "").replace("file.", "contents of ")
            if found := difference(old.get(key), new.get(key), name):
                return found
        return ""
    if old == new:
        return ""
    if where.startswith("contents of "):
        return f"{where} changed"
    return f"{where}: {_short(old)} there, {_short(new)} now"


def _clear(out: Path) -> None:
    for folder in (*out.glob("fold_*"), *out.glob("repeat_*")):
        shutil.rmtree(folder, ignore_errors=True)
    for name in ("plan.json", "crossval.json", "oof_predictions.csv", "provenance.json"):
        (out / name).unlink(missing_ok=True)


def _short(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "…"
