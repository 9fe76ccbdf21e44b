"""Cross-fitting of one fold: its student learns from teachers that each left out a part of the training patients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer

from dmml.cohort.splits.make_folds import make_folds
from dmml.errors import InputError
from dmml.experiment.crossval.fold_data import FoldData
from dmml.networks.checkpoint import read_checkpoint
from dmml.networks.packing import unpack
from dmml.training.losses.cross_fitted_teachers import CrossFittedTeachers
from dmml.training.student import SubspaceStudent

PARTS = 3
"""Number of parts of the training patients. Each teacher leaves out one part and is fitted on the other two thirds"""


class LearnFrom(Callback):
    """Gives a student its cross-fitted teachers after it has taken gene lists and edges from the fold's main teacher.

    Args:
        checkpoints: Checkpoints of the teachers.
        patients: See `CrossFittedTeachers`.
    """

    def __init__(self, checkpoints: Sequence[Path], patients: Callable[[str], list[str]]):
        self.checkpoints, self.patients = checkpoints, patients

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Called after `setup("fit")`, which loads the fold's main teacher."""
        cast(SubspaceStudent, pl_module).use_teacher(CrossFittedTeachers(self.checkpoints, self.patients))


def parts_of(data: FoldData, seed: int) -> list[list[str]]:
    """Divide the training patients into `PARTS` parts, stratified like folds."""
    train = data.patients("train")
    dealt = make_folds(data.cohort.clinical, PARTS, True, False, seed, patients=train)
    return [[patient for patient in train if dealt[patient] == part] for part in range(PARTS)]


@contextmanager
def without(data: FoldData, patients: Sequence[str], teacher: Path) -> Iterator[None]:
    """Leave patients out of the training patients, and standardise RNA as for the fold's main teacher.

    Mean and spread of genes contain no outcome, and teachers with different inputs would give the student contradictory
    targets.

    Raises:
        InputError: A rule chooses the genes, and would choose other genes for each teacher.
    """
    fitted = unpack(read_checkpoint(teacher)["hyper_parameters"]["fitted"])
    if fitted.get("gene_choice"):
        raise InputError(
            f"--cross-fit: gene_sets: {{{fitted['gene_choice']}}} chooses other genes for each teacher; name files alone"
        )
    data.without, data.fixed = set(patients), {"gene_statistics": fitted.get("gene_statistics", {})}
    data.setup("fit")
    try:
        yield
    finally:
        data.without, data.fixed = set(), {}
        data.setup("fit")


def same_outputs(section: dict[str, Any], teacher: Path) -> dict[str, Any]:
    """Return the teacher's section with the edges and the end, or the classes, of the fold's main teacher."""
    task = read_checkpoint(teacher)["hyper_parameters"]["task"]
    arguments = dict(section.get("init_args") or {})
    configured = arguments.get("task")
    of_task = dict(configured.get("init_args") or {}) if isinstance(configured, dict) else {}
    arguments["task"] = {"class_path": task["class_path"], "init_args": of_task | dict(task["init_args"])}
    return {**section, "init_args": arguments}
