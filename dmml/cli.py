"""The Lightning CLI of dmml: `fit`, `validate`, `test`, `predict`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonargparse
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException

# A config may name the classes that are imported here by their short names.
from dmml.callbacks.collection import CollectPredictions
from dmml.callbacks.coordination import GradientCoordination
from dmml.callbacks.nan_guard import NanGuard
from dmml.callbacks.padding import Padding
from dmml.callbacks.patient_rows import CollectRows
from dmml.callbacks.progress import Progress
from dmml.callbacks.resumable import Resumable
from dmml.callbacks.stop_signals import TrainingStopped
from dmml.commands.config.mistakes import in_one_line
from dmml.commands.config.preflight import Request
from dmml.data.module import MultimodalDataModule
from dmml.errors import InputError
from dmml.experiment.result_context import ResultOrigin
from dmml.experiment.results import write_predictions, write_test
from dmml.experiment.run_folder import RunFolder
from dmml.experiment.run_loggers import SaveConfigInRun, run_loggers, start_loggers
from dmml.experiment.training_patients import TrainingPatients
from dmml.experiment.training_reference import add_training_reference
from dmml.nn.expression import ExpressionEncoder
from dmml.nn.fusion import DeformableFusion, GatedPoolFusion
from dmml.nn.paper import PaperExpressionEncoder, PaperFusion
from dmml.tasks import Classification, Survival
from dmml.training.checkpointing.checkpoint import read_checkpoint
from dmml.training.checkpointing.packing import unpack
from dmml.training.library_warnings import silence_library_warnings
from dmml.training.optimisation import PATIENCE
from dmml.training.student import SubspaceStudent
from dmml.training.teacher import SubspaceTeacher

__all__ = [
    "Classification", "DeformableFusion", "ExpressionEncoder", "GatedPoolFusion", "GradientCoordination",
    "MultimodalDataModule", "PaperExpressionEncoder", "PaperFusion", "SubspaceStudent", "SubspaceTeacher", "Survival",
    "run",
]  # fmt: skip

TRAINER_DEFAULTS = {"max_epochs": 50, "log_every_n_steps": 5, "num_sanity_val_steps": 0, "enable_model_summary": False}


class DMMLCLI(LightningCLI):
    """A LightningCLI that can take the model from the checkpoint and writes results to the run folder.

    It adds dmml's loggers, checkpoints and early stopping where the config defines none.
    """

    request: Request
    fitted: Mapping[str, Any]
    """what was fitted along with the tested checkpoint; empty in a fit"""

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the stock CLI's arguments, but make the model optional, since `test` and `predict` need not name it."""
        parser.add_lightning_class_args(self.trainer_class, "trainer")
        parser.set_defaults({f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()})
        parser.add_lightning_class_args(self._model_class, "model", subclass_mode=True, required=False)
        parser.add_lightning_class_args(self._datamodule_class, "data", subclass_mode=True, required=True)

    def before_instantiate_classes(self) -> None:
        """Determine the run folder, and refuse a config or checkpoint without a model."""
        config = self.config[self.subcommand]
        if config.get("model") is None:
            raise InputError("the checkpoint names no model; give one written by `dmml fit`")
        if self.subcommand == "fit":
            self.folder = RunFolder(config["trainer"].get("default_root_dir") or self.request.run_folder)
        else:
            self.folder = RunFolder(self.request.checkpoint.root)
            config["trainer"]["logger"] = False
        config["trainer"]["default_root_dir"] = str(self.folder.path)

    def before_fit(self) -> None:
        """Start the run, or resume an unfinished one, now that the whole config is known to be valid."""
        if self.trainer.fast_dev_run:  # a trial writes nothing that a later run would have to replace
            return
        self._refuse_fit_without_validation()
        start_loggers(self.trainer.loggers)
        asked, config = self.request, self.config_init[self.subcommand]
        resume = self.folder.claim(asked.digest, asked.overwrite, asked.command, asked.resume)
        config["weights_only"] = True
        if resume is not None and config.get("ckpt_path") is None:
            read_checkpoint(resume)  # refuses in one line what Lightning would report with a traceback
            config["ckpt_path"] = str(resume)
            print(f"{self.folder.path}: an unfinished run; goes on from {resume.name}")

    def _refuse_fit_without_validation(self) -> None:
        """Refuse a fit without validation at once; Lightning would fail after the first epoch, with a traceback."""
        watching = [*self.trainer.checkpoint_callbacks, *self.trainer.early_stopping_callbacks]
        watches = any((callback.monitor or "").startswith("val/") for callback in watching)
        if self.trainer.limit_val_batches == 0 and watches:
            raise InputError(
                "trainer.limit_val_batches: 0 leaves no inner validation, which chooses the epoch and ends the fit; leave "
                "the option out, or let ModelCheckpoint and EarlyStopping monitor train/loss"
            )

    def before_validate(self) -> None:
        """Load checkpoints with `weights_only`, so that nothing in them is executed."""
        self.config_init[self.subcommand]["weights_only"] = True

    before_test = before_predict = before_validate

    def instantiate_classes(self) -> None:
        """As in the stock CLI, but report a refused value without a traceback, since the user can correct it."""
        try:
            super().instantiate_classes()
        except (ValueError, TypeError, MisconfigurationException) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(in_one_line(str(error))) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add dmml's loggers, and each of its callbacks that the config does not define."""
        trainer_config = self._get(self.config_init, "trainer", default={})
        callbacks = list(trainer_config.get("callbacks") or [])
        fit = self.subcommand == "fit"

        def lacks(kind: type) -> bool:
            return not any(isinstance(callback, kind) for callback in callbacks)

        extra: list[Any] = [CollectPredictions()] if lacks(CollectPredictions) else []
        if self.subcommand == "test" and lacks(CollectRows):
            extra.append(CollectRows())
        if not fit:
            self.training_patients = TrainingPatients(
                str(self.request.checkpoint.path),
                self.fitted,
                self.request.allow_training_patients,
                self.request.fold_source,
            )
            extra.append(self.training_patients)
        if fit and lacks(ModelCheckpoint) and trainer_config.get("enable_checkpointing") is not False:
            keep = {"dirpath": self.folder.checkpoints, "filename": "best", "monitor": "val/loss"}
            extra.append(ModelCheckpoint(**keep, enable_version_counter=False))
        if fit and lacks(Resumable) and trainer_config.get("enable_checkpointing") is not False:
            extra.append(Resumable(str(self.folder.checkpoints)))
        if fit and lacks(NanGuard):
            extra.append(NanGuard())
        if fit and lacks(Padding):
            extra.append(Padding())
        if fit and lacks(ProgressBar) and trainer_config.get("enable_progress_bar") is not False:
            extra.append(Progress())
        if fit and lacks(EarlyStopping):
            extra.append(EarlyStopping(monitor="val/loss", patience=PATIENCE))
        if fit:
            self._keep_checkpoints_in_run(callbacks)
            kwargs["logger"] = run_loggers(trainer_config.get("logger"), self.folder.path)
        elif lacks(ProgressBar) and not sys.stderr.isatty():  # a progress bar makes a log file unreadable
            kwargs["enable_progress_bar"] = False
        self.trainer_defaults = {"callbacks": extra}
        return super().instantiate_trainer(**kwargs)

    def _keep_checkpoints_in_run(self, callbacks: list[Any]) -> None:
        """Set the folder of a `ModelCheckpoint` that names none; the default is the folder of the first logger."""
        for callback in callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(self.folder.checkpoints)

    def after_fit(self) -> None:
        """Store what is fitted on the training patients' predictions, and mark the run as finished."""
        if self.trainer.interrupted or self.trainer.fast_dev_run or not self.trainer.is_global_zero:
            return
        add_training_reference(self.trainer, self.model, self.datamodule)
        self.folder.finish(self.model, self.datamodule, self.config[self.subcommand].get("seed_everything"))
        kept = f"best checkpoint {self.folder.best}" if self.folder.best.is_file() else "no best checkpoint was written"
        print(f"{self.folder.path}: finished after {self.trainer.current_epoch} epochs; {kept}")

    def after_test(self) -> None:
        """Write the tested cohort's predictions, metrics, plots and report."""
        if self.trainer.is_global_zero:
            rows = next(callback for callback in self.trainer.callbacks if isinstance(callback, CollectRows)).rows
            write_test(self.origin, self._collected(), self.model, self.datamodule, rows)

    def after_predict(self) -> None:
        """Write the predictions."""
        if self.trainer.is_global_zero:
            write_predictions(self.origin, self._collected(), self.datamodule)

    @property
    def origin(self) -> ResultOrigin:
        """Where the results come from, as it is recorded with them."""
        check = self.training_patients
        return ResultOrigin(self.request.checkpoint, self.request.command, check.seen, check.n_tested, check.unknown)

    def _collected(self) -> CollectPredictions:
        return next(callback for callback in self.trainer.callbacks if isinstance(callback, CollectPredictions))


def run(request: Request) -> int:
    """Run a checked request.

    Returns:
        0 on success, 130 if interrupted, 128 plus the signal's number if a signal stopped the training; after
        `--help` and the like, the exit code of the Lightning CLI.

    Raises:
        InputError: The configuration has a mistake.
    """
    silence_library_warnings()
    checkpoint, fitted = request.config.get("ckpt_path"), {}
    if isinstance(checkpoint, str) and Path(checkpoint).is_file():
        # Refuses in one line what the CLI would report with a traceback.
        fitted = unpack(read_checkpoint(checkpoint)["hyper_parameters"].get("fitted") or {})
    jsonargparse.set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    kind = type("_DMMLCLI", (DMMLCLI,), {"request": request, "fitted": fitted})
    try:
        cli = kind(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            parser_kwargs={"parser_mode": "omegaconf+", "exit_on_error": False},
            save_config_callback=SaveConfigInRun if request.verb == "fit" else None,
            save_config_kwargs={"save_to_log_dir": False},
            args=request.argv,
        )
    except jsonargparse.ArgumentError as error:
        raise InputError(in_one_line(str(error))) from error
    except TrainingStopped as stop:
        print(f"dmml: {stop}; the same command with --resume goes on there")
        return 128 + stop.signum
    except SystemExit as stop:  # after --help and --print_config
        return int(stop.code or 0)
    return 130 if cli.trainer.interrupted else 0
