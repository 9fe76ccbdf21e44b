"""The plan of a cross-validation, and the folder that belongs to it. Nothing here imports torch."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dmml._version import __version__
from dmml.atomic_files import write_json
from dmml.cohort.clinical.table import Clinical
from dmml.cohort.file_hashes import file_hashes
from dmml.cohort.splits.make_folds import make_folds
from dmml.cohort.splits.split import Split, split_of_folds
from dmml.errors import InputError
from dmml.experiment.crossval.models import JOINED, LINEAR

FOLDS = {"folds": 5, "stratify": True, "seed": 0}
"""Default split, if the config names none"""
_ANY_DATA = ("fold", "num_workers", "cache_gib")
_ANY_TRAINER = (
    "default_root_dir",
    "enable_progress_bar",
    "enable_model_summary",
    "logger",
    "devices",
    "num_nodes",
    "strategy",
)
"""Options of data and trainer that change where and how fast something is computed, but not the result"""


class FoldRun(NamedTuple):
    """One fold of one repeat, with one seed."""

    repeat: int
    fold: int
    seed: int

    def folder(self, out: Path) -> Path:
        """Folder of its models. The first repeat and seed need no subfolder, so that more can be added later."""
        repeat = out / f"repeat_{self.repeat}" if self.repeat else out
        fold = repeat / f"fold_{self.fold}"
        return fold / f"seed_{self.seed}" if self.seed else fold

    def __str__(self) -> str:
        """Name in progress lines and messages."""
        repeat = [f"repeat {self.repeat}"] if self.repeat else []
        return ", ".join([*repeat, f"fold {self.fold}", *([f"seed {self.seed}"] if self.seed else [])])


@dataclass(frozen=True)
class CrossvalPlan:
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
        baselines: {name of the model: short name or class path} of the baselines of `--baselines`.
        device: Number of the GPU that this process uses; None lets Lightning choose.
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
    baselines: Mapping[str, str] = field(default_factory=dict)
    device: int | None = field(default=None, compare=False)

    def fold_runs(self, only_fold: int | None = None) -> Iterator[FoldRun]:
        """Yield all runs, or those of one fold."""
        for repeat in range(self.repeats):
            for fold in self.folds if only_fold is None else [only_fold]:
                for seed in range(self.seeds):
                    yield FoldRun(repeat, fold, seed)

    def missing(self) -> dict[str, list[str]]:
        """Return {model: names of the runs in which it is not finished}."""
        missing: dict[str, list[str]] = {}
        for run in self.fold_runs():
            for name in self.models:
                if not (self.model_folder(run, name) / "done.json").is_file():
                    missing.setdefault(name, []).append(str(run))
        return missing

    def model_folder(self, run: FoldRun, model: str) -> Path:
        """Folder of a fitted model; a model without randomness is fitted once for all seeds."""
        if model.removesuffix(JOINED) in LINEAR:
            run = run._replace(seed=0)
        return run.folder(self.out) / model

    def network_of(self, model: str) -> str:
        """Short name or class path of a baseline's network."""
        return self.baselines.get(model, model)

    def check_baselines(self) -> None:
        """Refuse a baseline that has the name of another one in this folder.

        Raises:
            InputError: A finished model of that name has another class path.
        """
        for name in self.baselines:
            for run in self.fold_runs():
                record = self.model_folder(run, name) / "done.json"
                if not record.is_file():
                    continue
                network = json.loads(record.read_text(encoding="utf-8")).get("network", name)
                if network != self.network_of(name):
                    raise InputError(
                        f"--baselines: {name} was fitted in {record.parent} as {network}, not as {self.network_of(name)}; "
                        f"give it another name, NAME={self.network_of(name)}"
                    )

    def seed_of(self, run: FoldRun, model: str) -> int:
        """Seed of one fit, which does not depend on what was fitted before."""
        text = f"{self.base_seed}|{run.repeat}|{run.fold}|{run.seed}|{model}"
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
        rule = self.data["split"]
        by_site, seed = bool(rule.get("site")), int(rule.get("seed", 0)) + repeat
        folds = make_folds(clinical, int(rule.get("folds", 5)), bool(rule.get("stratify", True)), by_site, seed)
        return split_of_folds(folds, f"{clinical.source}, repeat {repeat}", by_site)

    # ---- the folder --------------------------------------------------------------------------------------------

    def content(self) -> dict[str, Any]:
        """Everything that determines the result, including dmml's version and the files' hashes; one per folder."""
        sections = {
            "dmml": __version__,
            "model": self.model,
            "student": self.student,
            "data": {key: value for key, value in self.data.items() if key not in _ANY_DATA},
            "trainer": {key: value for key, value in self.trainer.items() if key not in _ANY_TRAINER},
            "student trainer": {key: value for key, value in self.student_trainer.items() if key not in _ANY_TRAINER},
            "student batch_size": self.student_batch_size,
            "seed_everything": self.base_seed,
            "cross_fit": self.cross_fit or None,
            "file": file_hashes(self.data),
        }
        return json.loads(json.dumps(sections, default=str))

    def claim(self, overwrite: bool = False) -> None:
        """Start the cross-validation in its folder, or resume it.

        Raises:
            InputError: The folder belongs to another configuration or cohort, or has another baseline of the same name.
        """
        record = self.out / "plan.json"
        if overwrite:
            _clear(self.out)
        content = self.content()
        if record.is_file():
            if difference := describe_difference(json.loads(record.read_text(encoding="utf-8")), content):
                raise InputError(
                    f"{self.out}: was begun with another configuration or cohort ({difference}); "
                    "give another --out, or --overwrite to begin anew"
                )
            self.check_baselines()
            return
        if self.out.is_dir() and any(self.out.glob("fold_*")):
            raise InputError(f"{self.out}: holds folds but no plan.json; give another --out, or --overwrite")
        write_json(record, content)


def describe_difference(old: object, new: object, where: str = "") -> str:
    """Describe the first difference between two plans; empty if there is none."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            name = f"{where}.{key}".lstrip(".").replace(".init_args", "").replace("file.", "contents of ")
            if difference := describe_difference(old.get(key), new.get(key), name):
                return difference
        return ""
    if old == new:
        return ""
    if where.startswith("contents of "):
        return f"{where} changed"
    return f"{where}: {_as_text(old)} before, {_as_text(new)} now"


def _clear(out: Path) -> None:
    for folder in (*out.glob("fold_*"), *out.glob("repeat_*")):
        shutil.rmtree(folder, ignore_errors=True)
    for name in ("plan.json", "crossval.json", "oof_predictions.csv", "provenance.json"):
        (out / name).unlink(missing_ok=True)


def _as_text(value: object) -> str:
    text = "nothing" if value is None else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "…"
