"""Fits one network of one fold as `dmml fit` does, and predicts its inner validation and outer test patients."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import jsonargparse
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from dmml.callbacks.collection import CollectPredictions
from dmml.callbacks.metrics_table import MetricsTable
from dmml.data.fitted_model import FittedModel
from dmml.errors import InputError
from dmml.experiment.crossval.fold_data import FoldData
from dmml.experiment.crossval.models import is_baseline
from dmml.experiment.fit_defaults import (
    BEST_CHECKPOINT,
    PARSER,
    TRAINER_DEFAULTS,
    callbacks_of,
    default_callbacks,
    prepare_libraries,
)
from dmml.experiment.training_reference import (
    add_to_fitted,
    best_checkpoint,
    load_weights,
    predict_training_patients,
)
from dmml.networks.checkpoint import read_checkpoint

SHARED = ("task", "width", "magnifications", "lr", "weight_decay", "warmup", "optimizer", "lr_scheduler")
"""Arguments that the baselines' networks take over from the teacher"""
SHARED_WITH_STUDENT = (*SHARED, "backbone")
"""Arguments that a default student takes over from the teacher; the baselines' networks have no backbone"""
TASK_LOSS_ONLY = {"consistency_weight": 0.0, "program_weight": 0.0, "decorrelation_weight": 0.0}
"""Arguments with which a student without a teacher learns from outcomes alone"""
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}


class FoldCLI(LightningCLI):
    """Builds a model and its trainer from config sections as `dmml fit` does, with the same default callbacks."""

    def instantiate_trainer(self, **kwargs: object) -> Trainer:
        """Add the default callbacks that the section does not define."""
        configured = self._get(self.config_init, "trainer", default={}).get("callbacks") or []
        self.trainer_defaults = {"callbacks": default_callbacks(configured)}
        return super().instantiate_trainer(**kwargs)


def model_section(
    name: str,
    model: Mapping[str, Any],
    student: Mapping[str, Any] | None,
    teacher: Path | None,
    network: str | None = None,
) -> dict[str, Any]:
    """Return the config section of a network.

    Args:
        name: Name of the model.
        model: The teacher's section.
        student: The student's section; None = a student with the teacher's `SHARED_WITH_STUDENT` arguments.
        teacher: Checkpoint of the fold's teacher, for the student.
        network: Short name or class path of a baseline; None = its name.
    """
    if name == "teacher":
        return copy.deepcopy(dict(model))
    of_teacher = model.get("init_args") or {}
    keys = SHARED if is_baseline(name) else SHARED_WITH_STUDENT
    shared = {key: copy.deepcopy(of_teacher[key]) for key in keys if key in of_teacher}
    if is_baseline(name):
        return {
            "class_path": "dmml.training.baseline.BaselineNetwork",
            "init_args": shared | {"network": network or name},
        }
    section: dict[str, Any] = copy.deepcopy(dict(student or {"class_path": "SubspaceStudent", "init_args": shared}))
    arguments = dict(section.get("init_args") or {})
    if name == "student":
        arguments["teacher"] = str(teacher)
    else:  # the same network, including its programs, but learning from outcomes alone
        arguments |= {"teacher": None} | TASK_LOSS_ONLY
    return section | {"init_args": arguments}


def trainer_section(trainer: Mapping[str, Any], name: str, folder: Path, device: int | None) -> dict[str, Any]:
    """Adapt the config's trainer section to one network: one device, and its best epoch kept in `folder`.

    Args:
        trainer: The config's trainer section.
        name: Name of the model.
        folder: Folder of the results.
        device: Number of the GPU; None lets Lightning choose one device.
    """
    section = TRAINER_DEFAULTS | copy.deepcopy(dict(trainer)) | QUIET | {"default_root_dir": str(folder)}
    section = {key: value for key, value in section.items() if key not in ("strategy", "num_nodes")}
    section["devices"] = 1 if device is None else [device]
    callbacks = section.get("callbacks") or []
    callbacks = [callbacks] if isinstance(callbacks, Mapping) else list(callbacks)
    best = BEST_CHECKPOINT | {"dirpath": str(folder / "checkpoints")}
    for callback in callbacks:
        if _class_name(callback) == "ModelCheckpoint":  # the user says which epoch is best, but not where it is saved
            best |= {k: v for k, v in (callback.get("init_args") or {}).items() if k in ("monitor", "mode")}
    replaced = {"ModelCheckpoint"}
    if is_baseline(name):  # they have no subspaces to coordinate
        replaced.add("GradientCoordination")
    kept = [callback for callback in callbacks if _class_name(callback) not in replaced]
    section["callbacks"] = [*kept, {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": best}]
    return section


def build(model: Mapping[str, Any], trainer: Mapping[str, Any]) -> tuple[LightningModule, Trainer]:
    """Build model and trainer from config sections, with the parser that `dmml fit` uses.

    Raises:
        InputError: A section names something that does not exist, or a constructor refuses a value.
    """
    prepare_libraries()
    try:
        cli = FoldCLI(
            LightningModule,
            run=False,
            subclass_mode_model=True,
            auto_configure_optimizers=False,
            seed_everything_default=False,
            save_config_callback=None,
            parser_kwargs=PARSER,
            args={"model": dict(model), "trainer": dict(trainer)},
        )
    except (jsonargparse.ArgumentError, ValueError, TypeError, MisconfigurationException) as error:
        if isinstance(error, InputError):
            raise
        lines = [line.strip(" -") for line in str(error).splitlines() if line.strip(" -")]
        raise InputError(f"config: {' '.join(lines)[:300]}; correct the config") from error
    return cli.model, cli.trainer


def build_data(arguments: Mapping[str, Any]) -> FoldData:
    """Build the data module of the folds.

    Raises:
        InputError: The data module has no such argument, or refuses a value.
    """
    try:
        return FoldData(**arguments)
    except TypeError as error:
        raise InputError(f"data: {error}; see the data section of configs/luad.yaml") from error


def fit_network(
    name: str,
    model: Mapping[str, Any],
    trainer: Mapping[str, Any],
    data: FoldData,
    folder: Path,
    seed: int,
    callbacks: Sequence[Callback] = (),
) -> tuple[LightningModule, Trainer]:
    """Fit a network and choose the best epoch by inner validation.

    Args:
        name: Name of the model.
        model: Its config section.
        trainer: Its trainer section, from `trainer_section`.
        data: The data module, turned to the fold.
        folder: Folder for the checkpoint and the training curve, `metrics.csv`.
        seed: Seed of weights and dropout; the order of the patients follows the data module's own seed.
        callbacks: Callbacks in addition to those of the section.

    Returns:
        The model with the best epoch's weights, and its trainer. `fitted["chosen_epoch"]` of the model counts from 0.

    Raises:
        InputError: The network was never validated.
    """
    seed_everything(seed, workers=True, verbose=False)
    module, fitting = build(model, trainer)
    callbacks_of(fitting)[:0] = callbacks
    fitting.loggers = [MetricsTable(folder / "metrics.csv")]
    _finish(fitting, lambda: fitting.fit(module, datamodule=data))
    best = best_checkpoint(fitting)
    if not best:
        raise InputError(f"{folder}: {name} was never validated, so no epoch could be chosen; check trainer and folds")
    fitted = cast(FittedModel, module).fitted
    load_weights(best, module, fitting.strategy.root_device)
    median = predict_training_patients(module, data, keep_inputs=False).median_risk
    if median is not None:
        add_to_fitted(best, {"median_risk": median})
        fitted["median_risk"] = median
    fitted["chosen_epoch"] = int(read_checkpoint(best)["epoch"])
    return module, fitting


def predict_fold(
    module: LightningModule, trainer: Trainer, data: FoldData
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Predict the inner validation patients and the outer test patients, as two lists of rows.

    Args:
        module: The fitted model.
        trainer: The trainer that fitted it.
        data: The data module, turned to the fold.
    """
    collect = CollectPredictions(attention_mib=0)
    # The trainer's callbacks are no longer needed; precision and device stay as they were in training.
    callbacks_of(trainer)[:] = [collect]
    trainer.loggers = []
    loader = data.val_dataloader()
    _finish(trainer, lambda: trainer.predict(module, dataloaders=loader, return_predictions=False))
    inner = collect.rows
    _finish(trainer, lambda: trainer.test(module, datamodule=data, verbose=False))
    outer = collect.rows
    data.setup("fit")  # the test has set up another partition
    return inner, outer


def _finish(trainer: Trainer, step: Callable[[], object]) -> None:
    """Run a step of the trainer and pass an interrupt on; the trainer itself answers one by exiting or returning."""
    try:
        step()
    except SystemExit as stop:
        if trainer.interrupted:
            raise KeyboardInterrupt from stop
        raise
    if trainer.interrupted:
        raise KeyboardInterrupt


def _class_name(callback: object) -> str:
    """Return the last part of a callback section's class path."""
    path = callback.get("class_path", "") if isinstance(callback, Mapping) else callback
    return str(path).rsplit(".", 1)[-1]
