"""Fits one network of one fold as `dmml fit` does, and predicts its inner validation and its outer test patients."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonargparse
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException

# Classes that a config may name by their short names are those imported here.
from dmml.callbacks.collection import CollectPredictions
from dmml.callbacks.coordination import GradientCoordination
from dmml.callbacks.metrics_table import MetricsTable
from dmml.errors import InputError
from dmml.experiment.crossval_data import FoldData
from dmml.experiment.reference import add_training_reference, best_checkpoint
from dmml.nn.fusion import DeformableFusion, GatedPoolFusion
from dmml.tasks import Classification, Survival
from dmml.training.baseline import NETWORKS, BaselineNetwork
from dmml.training.checkpoint import read_checkpoint
from dmml.training.optimisation import PATIENCE
from dmml.training.student import SubspaceStudent
from dmml.training.teacher import SubspaceTeacher

__all__ = [
    "BaselineNetwork", "Classification", "DeformableFusion", "GatedPoolFusion", "GradientCoordination",
    "SubspaceStudent", "SubspaceTeacher", "Survival", "build", "build_data", "fit_network", "model_section",
    "predict_fold",
]  # fmt: skip

DEFAULTS = {"max_epochs": 50, "log_every_n_steps": 5, "num_sanity_val_steps": 0}
SHARED = ("task", "width", "magnifications", "lr", "weight_decay", "warmup")
"""Arguments of the teacher that the baselines' networks have, too."""
SHARED_WITH_STUDENT = (*SHARED, "backbone")
"""Those that a default student has, too; networks of baselines have no backbone"""
TASK_ALONE = {"consistency_weight": 0.0, "program_weight": 0.0, "decorrelation_weight": 0.0}
"""Arguments of a student that nobody teaches: with them it learns from outcomes and nothing else."""
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}


def model_section(
    name: str, model: Mapping[str, Any], student: Mapping[str, Any] | None, teacher: Path | None
) -> dict[str, Any]:
    """The config section of a network.

    Args:
        name: Of the model.
        model: The teacher's section.
        student: The student's section; None = a student with the teacher's `SHARED_WITH_STUDENT` arguments.
        teacher: Checkpoint of the fold's teacher, for the student.
    """
    given = model.get("init_args") or {}
    if name == "teacher":
        return copy.deepcopy(dict(model))
    names = SHARED if name in NETWORKS else SHARED_WITH_STUDENT
    shared = {key: copy.deepcopy(given[key]) for key in names if key in given}
    if name in NETWORKS:
        return {"class_path": "dmml.training.baseline.BaselineNetwork", "init_args": shared | {"network": name}}
    section = copy.deepcopy(dict(student)) if student else {"class_path": "SubspaceStudent", "init_args": shared}
    section["init_args"] = dict(section.get("init_args") or {})
    if name == "student":
        section["init_args"]["teacher"] = str(teacher)
    else:  # the same network, programs in it included, that learns from outcomes alone
        section["init_args"] |= {"teacher": None} | TASK_ALONE
    return section


def trainer_section(given: Mapping[str, Any], name: str, folder: Path, device: int | None) -> dict[str, Any]:
    """The config's trainer section for one network: dmml's callbacks where it has none, one device, results in `folder`."""
    section = DEFAULTS | copy.deepcopy(dict(given)) | QUIET | {"default_root_dir": str(folder)}
    section = {key: value for key, value in section.items() if key not in ("strategy", "num_nodes")}
    section["devices"] = 1 if device is None else [device]
    callbacks = section.get("callbacks") or []
    callbacks = [callbacks] if isinstance(callbacks, Mapping) else list(callbacks)
    keep = {"dirpath": str(folder / "checkpoints"), "filename": "best", "monitor": "val/loss"}
    for callback in callbacks:
        if _kind(callback) == "ModelCheckpoint":  # what is best is the user's to say, where it lies is not
            keep |= {k: v for k, v in (callback.get("init_args") or {}).items() if k in ("monitor", "mode")}
    callbacks = [callback for callback in callbacks if _kind(callback) != "ModelCheckpoint"]
    if name in NETWORKS:  # they have no subspaces to coordinate
        callbacks = [callback for callback in callbacks if _kind(callback) != "GradientCoordination"]
    if not any(_kind(callback) == "EarlyStopping" for callback in callbacks):
        callbacks.append(_callback("EarlyStopping", monitor="val/loss", patience=PATIENCE))
    if not any(_kind(callback) == "NanGuard" for callback in callbacks):
        callbacks.append({"class_path": "dmml.callbacks.nan_guard.NanGuard"})
    callbacks.append(_callback("ModelCheckpoint", **keep, enable_version_counter=False))
    section["callbacks"] = callbacks
    return section


def build(model: Mapping[str, Any], trainer: Mapping[str, Any]) -> tuple[LightningModule, Trainer]:
    """Model and trainer of config sections, through the parser that `dmml fit` uses.

    Raises:
        InputError: A section names what is not there, or a constructor refuses a value.
    """
    return _parse({"model": dict(model), "trainer": dict(trainer)})


def build_data(arguments: Mapping[str, Any]) -> FoldData:
    """The data module of the folds.

    Raises:
        InputError: It does not take an argument, or refuses a value.
    """
    try:
        return FoldData(**arguments)
    except TypeError as error:
        raise InputError(f"data: {error}; see the data section of configs/luad.yaml") from error


def _parse(content: dict[str, Any]) -> tuple[LightningModule, Trainer]:
    jsonargparse.set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    try:
        cli = LightningCLI(
            LightningModule,
            run=False,
            subclass_mode_model=True,
            auto_configure_optimizers=False,
            seed_everything_default=False,
            save_config_callback=None,
            parser_kwargs={"parser_mode": "omegaconf+", "exit_on_error": False},
            args=content,
        )
    except (jsonargparse.ArgumentError, ValueError, TypeError, MisconfigurationException) as error:
        if isinstance(error, InputError):
            raise
        told = [line.strip(" -") for line in str(error).splitlines() if line.strip(" -")]
        raise InputError(f"config: {' '.join(told)[:300]}; correct the config") from error
    return cli.model, cli.trainer


def fit_network(
    name: str,
    model: Mapping[str, Any],
    trainer: Mapping[str, Any],
    data: FoldData,
    folder: Path,
    seed: int,
    callbacks: Sequence[Callback] = (),
) -> tuple[LightningModule, Trainer]:
    """Fit, and take the best epoch by inner validation.

    Args:
        name: Of the model.
        model: Its section.
        trainer: Its section, from `trainer_section`.
        data: Turned to the fold.
        folder: Where the checkpoint and the training curve, `metrics.csv`, go.
        seed: Of weights and dropout; the order of the patients is the data's own.
        callbacks: More than the section has.

    Returns:
        The model with the best epoch's weights, and its trainer. `fitted` of the model tells the `chosen_epoch`, from 0.
    """
    seed_everything(seed, workers=True, verbose=False)
    module, fitting = build(model, trainer)
    fitting.callbacks[:0] = callbacks
    fitting.loggers = [MetricsTable(folder / "metrics.csv")]
    _finish(fitting, lambda: fitting.fit(module, datamodule=data))
    best = best_checkpoint(fitting)
    if not best:
        raise InputError(f"{folder}: {name} was never validated, so no epoch could be chosen; check trainer and folds")
    median = add_training_reference(fitting, module, data, shift=False)  # it loads the best epoch, too
    if median is not None:
        module.fitted["median_risk"] = median
    module.fitted["chosen_epoch"] = int(read_checkpoint(best)["epoch"])
    return module, fitting


def predict_fold(
    module: LightningModule, trainer: Trainer, data: FoldData
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the inner validation and of the outer test patients.

    Args:
        module: Fitted.
        trainer: That fitted it.
        data: Turned to the fold.
    """
    collect = CollectPredictions(attention_mib=0)
    # The trainer's own callbacks have done their work; precision and device stay as they were in training.
    trainer.callbacks[:], trainer.loggers = [collect], []
    loader = data.val_dataloader()
    _finish(trainer, lambda: trainer.predict(module, dataloaders=loader, return_predictions=False))
    inner = collect.rows
    _finish(trainer, lambda: trainer.test(module, datamodule=data, verbose=False))
    outer = collect.rows
    data.setup("fit")  # testing has parted the patients otherwise
    return inner, outer


def _finish(trainer: Trainer, step: Any) -> None:
    """Run a step of the trainer; an interrupt, which it answers by exiting, goes on as one."""
    try:
        step()
    except SystemExit as stop:
        if trainer.interrupted:
            raise KeyboardInterrupt from stop
        raise
    if trainer.interrupted:
        raise KeyboardInterrupt


def _kind(callback: Any) -> str:
    """Last part of the class path of a callback section."""
    path = callback.get("class_path", "") if isinstance(callback, Mapping) else str(callback)
    return str(path).rsplit(".", 1)[-1]


def _callback(name: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": f"lightning.pytorch.callbacks.{name}", "init_args": arguments}
