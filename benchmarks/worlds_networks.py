"""The networks of the worlds: config sections, fitted as by `dmml fit` with the defaults that a user gets."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import io
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from worlds_data import Setup, WorldData
from worlds_factors import factors_of

from dmml.callbacks.collection import CollectPredictions
from dmml.experiment.crossval.fit import QUIET, TASK_LOSS_ONLY, fit_network, trainer_section
from dmml.experiment.training_reference import best_checkpoint
from dmml.training.fitted_module import genes_of
from dmml.training.student import SubspaceStudent
from dmml.training.subspace_module import SubspaceModule
from dmml.training.teacher import SubspaceTeacher
from dmml.types import SUBSPACES, Batch

_CLASSES = {"SubspaceTeacher": SubspaceTeacher, "SubspaceStudent": SubspaceStudent}
_KINDS = {"SubspaceTeacher": "teacher", "SubspaceStudent": "student"}
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
    coordination: dict[str, str] | None = None
    """Arguments of `GradientCoordination`; None = without the callback, as by default"""
    one_gene_group: bool = False
    """Whether both subspaces read the genes and programs of both"""
    start: int = 0
    """Added to the seed of weights and dropout; the patients and their order stay the same"""

    @property
    def needs(self) -> set[str]:
        """Networks whose checkpoints it needs."""
        return {self.teacher, self.backbone_of} - {None}

    @property
    def unknown_arguments(self) -> list[str]:
        """Arguments that a class does not have, and classes that do not exist, in the network and its parts."""
        kind = _CLASSES.get(self.class_path)
        accepted = self.init_args if kind is None else inspect.signature(kind).parameters
        return [name for name in self.init_args if name not in accepted] + _unknown_in(self.init_args)

    def digest(self, networks: Mapping[str, Network]) -> str:
        """Short hash of the definition and of those of the networks that it needs."""
        needed = [networks[name].digest(networks) for name in sorted(self.needs)]
        plain = Network(self.class_path)
        stated = {each.name: getattr(self, each.name) for each in fields(self)}
        differing = {name: value for name, value in stated.items() if value != getattr(plain, name)}
        described = [self.class_path, differing, needed]
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:12]


def _unknown_in(value: Any) -> list[str]:
    """Class paths that cannot be imported, and arguments that their classes do not have, at any depth."""
    if not isinstance(value, Mapping):
        return []
    unknown = [name for each in value.values() for name in _unknown_in(each)]
    path = value.get("class_path", "")
    module, _, name = path.rpartition(".")
    if not module:  # a short name, or no class
        return unknown
    try:
        kind = getattr(import_module(module), name)
    except (ImportError, AttributeError):
        return [path, *unknown]
    accepted = inspect.signature(kind).parameters
    return [f"{name}.{each}" for each in value.get("init_args", {}) if each not in accepted] + unknown


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


FACTORS_IN = "shared"
"""World in which it is measured which factors the embeddings contain, which takes seconds"""


def teaching(networks: Mapping[str, Network]) -> set[str]:
    """Networks whose checkpoints others need."""
    return {name for network in networks.values() for name in network.needs}


def predict_network(
    name: str,
    world: WorldData,
    seed: int,
    setup: Setup,
    checkpoints: Path,
    networks: Mapping[str, Network] = NETWORKS,
) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Fit a network, choose its best epoch by inner validation, and predict the test patients.

    Args:
        name: A key of `networks`.
        world: The data.
        seed: Seed of weights, dropout and order.
        setup: Settings that all cells share.
        checkpoints: Folder of the checkpoints of teachers, to which that of this network is added.
        networks: All networks by name, its teacher among them.

    Returns:
        (n_test,) log-hazards, and facts about the fit to keep.
    """
    network = networks[name]
    if network.backbone_of is not None:
        return _backbone_alone(network, world, checkpoints), {}
    section = {"class_path": network.class_path, "init_args": dict(network.init_args)}
    if network.teacher is not None:
        section["init_args"]["teacher"] = str(checkpoint_of(network.teacher, checkpoints))
    if network.one_gene_group:
        section["init_args"] |= _one_gene_group(world)
    options = {"max_epochs": setup.max_epochs, "gradient_clip_val": 1.0, "accelerator": "cpu"}
    if network.coordination is not None:
        options["callbacks"] = [{"class_path": "GradientCoordination", "init_args": dict(network.coordination)}]
    checkpoints.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=checkpoints, prefix=".fit_") as folder, _quiet():
        # By this name it is decided whether the network has subspaces to coordinate.
        kind = _KINDS.get(network.class_path, name)
        trainer = trainer_section(options | network.trainer, kind, Path(folder), None)
        module, fitting = fit_network(name, section, trainer, world.fitting, Path(folder), seed + network.start)
        if name in teaching(networks):
            shutil.copy(best_checkpoint(fitting), Path(folder) / "kept.ckpt")
            os.replace(Path(folder) / "kept.ckpt", checkpoint_of(name, checkpoints))
        risks, embeddings = _test(module, world)
    facts = {"epochs": fitting.current_epoch, "chosen_epoch": module.fitted["chosen_epoch"] + 1}
    if getattr(module, "backbone", None) is not None:
        facts["deep_share"] = module.deep_share.item()
    if embeddings and world.world == FACTORS_IN:
        facts["partial_r2"] = factors_of(embeddings, world)
    return risks, facts


def _one_gene_group(world: WorldData) -> dict[str, Any]:
    """Genes and programs of both subspaces for each of the two."""
    programs = {name: genes for sets in world.fitting.programs().values() for name, genes in sets.items()}
    both = dict.fromkeys(SUBSPACES, programs)
    return {"programs": both, "genes": genes_of(both)}


def _backbone_alone(network: Network, world: WorldData, checkpoints: Path) -> NDArray[np.float64]:
    """(n_test,) log-hazards of a fitted network whose deep part is left out."""
    path = checkpoint_of(network.backbone_of, checkpoints)
    module = _CLASSES[network.class_path].load_from_checkpoint(path, map_location="cpu", weights_only=True)
    module.deep_share.zero_()
    with _quiet():
        return _test(module, world)[0]


class _CollectEmbeddings(Callback):
    """Keeps the embeddings of the tested patients, {patient: {subspace: (M · d,)}}, all magnifications side by side."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, NDArray]] = {}

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, *_: Any
    ) -> None:
        """Collect a batch."""
        embeddings = outputs["output"].embeddings
        joined = {s: torch.cat([e for (_, of), e in embeddings.items() if of == s], 1) for s in SUBSPACES}
        for i, patient in enumerate(batch.patient_id):
            self.rows[patient] = {s: values[i].double().cpu().numpy() for s, values in joined.items()}


def _test(module: LightningModule, world: WorldData) -> tuple[NDArray[np.float64], dict[str, NDArray]]:
    """(n_test,) log-hazards of the tested patients, and {subspace: (n_test, M · d)} embeddings, {} of a baseline."""
    collect, embeddings = CollectPredictions(attention_mib=0), _CollectEmbeddings()
    has_subspaces = isinstance(module, SubspaceModule)
    callbacks = [collect, embeddings] if has_subspaces else [collect]
    Trainer(callbacks=callbacks, accelerator="cpu", **QUIET).test(module, world.testing, verbose=False)
    risk = {row["patient_id"]: float(row["risk"]) for row in collect.rows}
    risks = np.array([risk[patient] for patient in world.test])
    subspaces = SUBSPACES if has_subspaces else ()
    return risks, {s: np.stack([embeddings.rows[patient][s] for patient in world.test]) for s in subspaces}


def checkpoint_of(name: str, checkpoints: Path) -> Path:
    """Path of the checkpoint of a teacher."""
    return checkpoints / f"{name}.ckpt"


@contextlib.contextmanager
def _quiet() -> Any:
    """Suppress the messages of single fits; a run of thousands of fits shows one progress bar."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
