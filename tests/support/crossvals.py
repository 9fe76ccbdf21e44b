"""Small cross-validations on a simulated cohort of token features."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import yaml
from lightning.pytorch import Callback

from dmml.commands import crossval
from dmml.commands.console import show_log

SURVIVAL = {"time": "os_days", "event": "os_event", "unit": "days"}
LIGHT = "rna_network,clinical"
FEW = "teacher,student,rna_linear,clinical"


def write_config(path: Path, cohort: Path, model: dict | None = None, trainer: dict | None = None, **data: Any) -> Path:
    """A teacher's config; a `data` argument of None is left out."""
    section = {
        "clinical": str(cohort / "clinical.csv"),
        "outcome": SURVIVAL,
        "covariates": ["age", "sex", "stage"],
        "expression": str(cohort / "expression.parquet"),
        "features": str(cohort / "features.zarr"),
        "split": {"folds": 2},
    } | data
    task = {"class_path": "Survival", "init_args": {"n_intervals": 3}}
    content = {
        "seed_everything": 0,
        "model": {"class_path": "SubspaceTeacher", "init_args": {"width": 16, "task": task} | (model or {})},
        "data": {
            "class_path": "MultimodalDataModule",
            "init_args": {key: value for key, value in section.items() if value is not None},
        },
        "trainer": {
            "default_root_dir": str(path.parent / "runs" / path.stem),
            "max_epochs": 1,
            "callbacks": [{"class_path": "GradientCoordination"}],
        }
        | (trainer or {}),
    }
    path.write_text(yaml.safe_dump(content))
    return path


def run(*argv: Any) -> None:
    """`dmml crossval` with these arguments."""
    parser = argparse.ArgumentParser()
    crossval.add_arguments(parser)
    with show_log():
        crossval.run(parser.parse_args([str(word) for word in argv]))


class RecordBatches(Callback):
    """Records the patients of every training batch of each network, in the order of the fits."""

    fits: ClassVar[list[list[list[str]]]] = []

    def on_train_start(self, trainer, module) -> None:
        """Start a new list for the fit."""
        self.fits.append([])

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        """Record the patients of the batch."""
        self.fits[-1].append(list(batch.patient_id))


def parts_in_files(cohort: Path, folder: Path) -> dict[str, list[str]]:
    """Write `splits_0.csv` and `splits_1.csv`, which state the inner validation; return the parts of fold 0.

    Nothing in it follows from outcomes, so values of test patients cannot change who is in which part.
    """
    ids = list(dict.fromkeys(pd.read_csv(cohort / "clinical.csv", dtype=str)["patient_id"]))
    folder.mkdir()
    halves = ids[::2], ids[1::2]
    for k, test in enumerate(halves):
        rest = halves[1 - k]
        parts = {"train": rest[4:], "val": rest[:4], "test": test}
        table = pd.DataFrame({name: pd.Series(members) for name, members in parts.items()})
        table.to_csv(folder / f"splits_{k}.csv", index=False)
        if k == 0:
            first = parts
    return first
