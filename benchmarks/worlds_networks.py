"""The networks of the worlds: config sections, fitted as by `dmml fit` with the defaults that a user gets."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import os
import shutil
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from numpy.typing import NDArray
from worlds_data import Setup, WorldData

from dmml.callbacks.collection import CollectPredictions
from dmml.experiment.crossval.fit import QUIET, TASK_LOSS_ONLY, fit_network, trainer_section
from dmml.experiment.training_reference import best_checkpoint
from dmml.training.student import SubspaceStudent
from dmml.training.teacher import SubspaceTeacher

_CLASSES = {"SubspaceTeacher": SubspaceTeacher, "SubspaceStudent": SubspaceStudent}
_BASELINE = "dmml.training.baseline.BaselineNetwork"


@dataclass(frozen=True)
class Network:
    """One network, described by its differences from the defaults of its class."""

    class_path: str
    init_args: dict[str, Any] = field(default_factory=dict)
    teacher: str | None = None
    """Name of its teacher"""
    trainer: dict[str, Any] = field(default_factory=dict)
    """Entries of the trainer section that differ from those of the other networks"""
    reads: tuple[str, ...] = ("rna", "slides")
    backbone_of: str | None = None
    """Name of the network whose backbone predicts alone; nothing is fitted"""

    @property
    def needs(self) -> set[str]:
        """Networks whose checkpoints it needs."""
        return {self.teacher, self.backbone_of} - {None}

    @property
    def unknown_arguments(self) -> list[str]:
        """Arguments that the class does not have."""
        kind = _CLASSES.get(self.class_path)
        accepted = self.init_args if kind is None else inspect.signature(kind).parameters
        return [name for name in self.init_args if name not in accepted]


_SLIDES = ("slides",)
NETWORKS = {
    "histology_abmil": Network(_BASELINE, {"network": "histology_abmil"}, reads=_SLIDES),
    "late_fusion": Network(_BASELINE, {"network": "late_fusion"}),
    "transmil_like": Network(_BASELINE, {"network": "worlds_rivals.SmallTransMIL"}, reads=_SLIDES),
    "mcat_like": Network(_BASELINE, {"network": "mcat"}),
    "teacher": Network("SubspaceTeacher"),
    "student": Network("SubspaceStudent", teacher="teacher", reads=_SLIDES),
    "student_undistilled": Network("SubspaceStudent", {"teacher": None} | TASK_LOSS_ONLY, reads=_SLIDES),
    "teacher_backbone_alone": Network("SubspaceTeacher", backbone_of="teacher"),
    "student_backbone_alone": Network("SubspaceStudent", backbone_of="student", reads=_SLIDES),
    "teacher_without_backbone": Network("SubspaceTeacher", {"backbone": None}),
    "student_without_backbone": Network(
        "SubspaceStudent", {"backbone": None}, teacher="teacher_without_backbone", reads=_SLIDES
    ),
}
"""All networks in the order of fitting: teachers before their students"""


def predict_network(
    name: str, world: WorldData, seed: int, setup: Setup, checkpoints: Path
) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Fit a network, choose its best epoch by inner validation, and predict the test patients.

    Args:
        name: A key of `NETWORKS`.
        world: The data.
        seed: Seed of weights, dropout and order.
        setup: Settings that all cells share.
        checkpoints: Folder of the checkpoints of teachers, to which that of this network is added.

    Returns:
        (n_test,) log-hazards, and facts about the fit to keep.
    """
    network = NETWORKS[name]
    if network.backbone_of is not None:
        return _backbone_alone(network, world, checkpoints), {}
    section = {"class_path": network.class_path, "init_args": dict(network.init_args)}
    if network.teacher is not None:
        section["init_args"]["teacher"] = str(checkpoint_of(network.teacher, checkpoints))
    options = {"max_epochs": setup.max_epochs, "gradient_clip_val": 1.0, "accelerator": "cpu"}
    if network.class_path in _CLASSES:
        options["callbacks"] = [{"class_path": "GradientCoordination"}]
    checkpoints.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=checkpoints, prefix=".fit_") as folder, _quiet():
        trainer = trainer_section(options | network.trainer, name, Path(folder), None)
        module, fitting = fit_network(name, section, trainer, world.fitting, Path(folder), seed)
        if name in TEACHING:
            shutil.copy(best_checkpoint(fitting), Path(folder) / "kept.ckpt")
            os.replace(Path(folder) / "kept.ckpt", checkpoint_of(name, checkpoints))
        risks = _test(module, world)
    facts = {"epochs": fitting.current_epoch, "chosen_epoch": module.fitted["chosen_epoch"] + 1}
    if getattr(module, "backbone", None) is not None:
        facts["deep_share"] = module.deep_share.item()
    return risks, facts


def _backbone_alone(network: Network, world: WorldData, checkpoints: Path) -> NDArray[np.float64]:
    """(n_test,) log-hazards of a fitted network whose deep part is left out."""
    path = checkpoint_of(network.backbone_of, checkpoints)
    module = _CLASSES[network.class_path].load_from_checkpoint(path, map_location="cpu", weights_only=True)
    module.deep_share.zero_()
    with _quiet():
        return _test(module, world)


def _test(module: LightningModule, world: WorldData) -> NDArray[np.float64]:
    """(n_test,) log-hazards of the tested patients."""
    collect = CollectPredictions(attention_mib=0)
    Trainer(callbacks=[collect], accelerator="cpu", **QUIET).test(module, world.testing, verbose=False)
    risk = {row["patient_id"]: float(row["risk"]) for row in collect.rows}
    return np.array([risk[patient] for patient in world.test])


def checkpoint_of(name: str, checkpoints: Path) -> Path:
    """Path of the checkpoint of a teacher."""
    return checkpoints / f"{name}.ckpt"


TEACHING = {name for network in NETWORKS.values() for name in network.needs}
"""Networks whose checkpoints others need."""


@contextlib.contextmanager
def _quiet() -> Any:
    """Suppress the messages of single fits; a run of thousands of fits shows one progress bar."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
