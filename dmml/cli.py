"""The Lightning CLI of dmml: `fit`, `validate`, `test`, `predict`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jsonargparse
import yaml
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from dmml.callbacks.collection import CollectPredictions
from dmml.callbacks.padding import Padding
from dmml.callbacks.patient_rows import CollectRows
from dmml.callbacks.progress import Progress
from dmml.callbacks.resumable import Resumable
from dmml.callbacks.stop_signals import TrainingStopped
from dmml.commands.config.checked_command import CheckedCommand
from dmml.commands.config.mistakes import in_one_line
from dmml.data.module import MultimodalDataModule
from dmml.errors import InputError
from dmml.experiment.fit_defaults import (
    BEST_CHECKPOINT,
    PARSER,
    TRAINER_DEFAULTS,
    callbacks_of,
    default_callbacks,
    has_kind,
    prepare_libraries,
    silence_progress_bars,
)
from dmml.experiment.limits.cohort_slides import training_slide_limits
from dmml.experiment.limits.inner_validation import conformal_calibration
from dmml.experiment.result_context import ResultOrigin
from dmml.experiment.results import write_predictions, write_test
from dmml.experiment.run_folder import RunFolder
from dmml.experiment.run_loggers import SaveConfigInRun, run_loggers, start_loggers
from dmml.experiment.training_patients import TrainingPatients
from dmml.experiment.training_reference import (
    add_to_fitted,
    best_checkpoint,
    fit_references,
    load_weights,
    predict_training_patients,
)
from dmml.networks.checkpoint import read_checkpoint
from dmml.networks.packing import pack, unpack
from dmml.progress_bars import is_quiet
from dmml.training.subspace_module import SubspaceModule

LOGGER = logging.getLogger(__name__)
C = TypeVar("C", bound=Callback)


class DMMLCLI(LightningCLI):
    """A LightningCLI that can take the model from the checkpoint and writes results to the run folder.

    It adds dmml's loggers, checkpoints and early stopping where the config defines none.
    """

    command: CheckedCommand
    fitted: Mapping[str, Any]
    """what was fitted along with the tested checkpoint; empty in a fit"""

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the stock CLI's arguments, but make the model optional, since `test` and `predict` need not name it."""
        parser.add_lightning_class_args(self.trainer_class, "trainer")
        parser.set_defaults({f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()})
        parser.add_lightning_class_args(self._model_class, "model", subclass_mode=True, required=False)
        parser.add_lightning_class_args(self._datamodule_class, "data", subclass_mode=True, required=True)

    def _dump_config(self) -> None:
        """As in the stock CLI, but without validating again what was just parsed, and with the text read in C."""
        if not hasattr(self, "config_dump"):
            text = self.parser.dump(
                self.config, format="yaml", skip_validation=True, skip_link_targets=False, skip_none=False
            )
            self.config_dump = yaml.load(text, Loader=yaml.CSafeLoader)[self.subcommand]

    def before_instantiate_classes(self) -> None:
        """Determine the run folder, and check that the config or the checkpoint names a model."""
        config = self.config[self.subcommand]
        if config.get("model") is None:
            raise InputError("the checkpoint does not say which model it holds; give one written by `dmml fit`")
        if self.subcommand == "fit":
            self.folder = RunFolder(config["trainer"].get("default_root_dir") or self.command.run_folder)
        else:
            self.folder = RunFolder(self.command.checkpoint.root)
            config["trainer"]["logger"] = False
        config["trainer"]["default_root_dir"] = str(self.folder.path)

    def before_fit(self) -> None:
        """Start the run, or resume an unfinished one, now that the whole config is known to be valid."""
        if self.is_trial:  # writes nothing that a later run would have to replace
            return
        self._check_is_validated()
        start_loggers(self.trainer.loggers)
        command, config = self.command, self.config_init[self.subcommand]
        last = self.folder.claim(command.digest, command.overwrite, command.command, command.resume)
        config["weights_only"] = True
        if last is not None and config.get("ckpt_path") is None:
            read_checkpoint(last)  # refuses in one line what Lightning would report with a traceback
            config["ckpt_path"] = str(last)
            LOGGER.info("%s: an unfinished run; continues from %s", self.folder.path, last.name)

    @property
    def is_trial(self) -> bool:
        """Whether the run is Lightning's trial of a few batches."""
        return bool(getattr(self.trainer, "fast_dev_run", False))

    def _check_is_validated(self) -> None:
        """Refuse a fit without validation at once; Lightning would fail after the first epoch, with a traceback."""
        watching = [*self.trainer.checkpoint_callbacks, *self.trainer.early_stopping_callbacks]
        watches = any((getattr(callback, "monitor", None) or "").startswith("val/") for callback in watching)
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
        """As in the stock CLI, but report a refused value without a traceback, since the user can correct it.

        The data module gets the tables that the check of the command has read.
        """
        try:
            super().instantiate_classes()
        except (ValueError, TypeError, MisconfigurationException) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(in_one_line(str(error))) from error
        cohort, data = self.command.cohort, self.datamodule
        if cohort is not None and isinstance(data, MultimodalDataModule) and data.config.describes(self.command.data):
            data.use_cohort(cohort)

    def instantiate_trainer(self, **kwargs: object) -> Trainer:
        """Add dmml's loggers, and each of its callbacks that the config does not define."""
        config = self._get(self.config_init, "trainer", default={})
        configured: list[Callback] = list(config.get("callbacks") or [])
        if self.subcommand == "fit":
            added = self._fit_callbacks(config, configured)
            kwargs["logger"] = run_loggers(config.get("logger"), self.folder.path)
        else:
            added = self._test_callbacks(configured)
            # A progress bar makes a log file unreadable.
            if not has_kind(configured, ProgressBar) and (is_quiet() or not sys.stderr.isatty()):
                kwargs["enable_progress_bar"] = False
        silence_progress_bars([*configured, *added])
        LOGGER.debug("callbacks that dmml adds: %s", ", ".join(type(callback).__name__ for callback in added))
        self.trainer_defaults = {"callbacks": added}
        return super().instantiate_trainer(**kwargs)

    def _fit_callbacks(self, config: Mapping[str, Any], configured: Sequence[Callback]) -> list[Callback]:
        """Callbacks of a fit that the config does not define itself; its checkpoints are kept in the run folder."""
        for callback in configured:
            # The default is the folder of the first logger.
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(self.folder.checkpoints)
        defaults: list[Callback] = [CollectPredictions()]
        if config.get("enable_checkpointing") is not False:
            defaults.append(ModelCheckpoint(dirpath=self.folder.checkpoints, **BEST_CHECKPOINT))
            defaults.append(Resumable(str(self.folder.checkpoints)))
        defaults += [*default_callbacks(configured), Padding()]
        if config.get("enable_progress_bar") is not False and not has_kind(configured, ProgressBar):
            defaults.append(Progress())
        return [callback for callback in defaults if not has_kind(configured, type(callback))]

    def _test_callbacks(self, configured: Sequence[Callback]) -> list[Callback]:
        """Callbacks of `validate`, `test` and `predict` that the config does not define itself."""
        command = self.command
        self.training_patients = TrainingPatients(
            str(command.checkpoint.path), self.fitted, command.allow_training_patients, command.fold_source
        )
        defaults: list[Callback] = [CollectPredictions(), *([CollectRows()] if self.subcommand == "test" else [])]
        missing = [callback for callback in defaults if not has_kind(configured, type(callback))]
        return [*missing, self.training_patients]

    def after_fit(self) -> None:
        """Store what is fitted on the training patients' predictions, and mark the run as finished."""
        if self.trainer.interrupted or self.is_trial or not self.trainer.is_global_zero:
            return
        best_path = best_checkpoint(self.trainer)
        if best_path and hasattr(self.datamodule, "train_patients_in_order"):
            self._add_training_reference(best_path)
        self.folder.finish(self.model, self.datamodule, self.config[self.subcommand].get("seed_everything"))
        best = self.folder.best
        kept = f"best checkpoint {best}" if best.is_file() else "no best checkpoint was written"
        LOGGER.info("%s: finished after %d epochs; %s", self.folder.path, self.trainer.current_epoch, kept)

    def _add_training_reference(self, checkpoint: str) -> None:
        """Add the median risk and the distribution of the inputs of the training patients to the best checkpoint."""
        load_weights(checkpoint, self.model, self.trainer.strategy.root_device)
        training = predict_training_patients(self.model, self.datamodule)
        genes = self.model.fitted.get("gene_statistics") or {}
        reference = {"reference": pack(fit_references(training.inputs, genes, self.datamodule))}
        median = {} if training.median_risk is None else {"median_risk": training.median_risk}
        add_to_fitted(checkpoint, median | reference | pack(self._limits()))

    def _limits(self) -> dict[str, Any]:
        """What the checkpoint knows of the limits of its model, besides the reference: its slides, and calibrations."""
        limits: dict[str, Any] = {"slide_limits": training_slide_limits(self.datamodule)}
        if isinstance(self.model, SubspaceModule) and hasattr(self.datamodule, "val_patients_in_order"):
            limits["conformal"] = conformal_calibration(self.model, self.datamodule)
        return limits

    def after_test(self) -> None:
        """Write the tested cohort's predictions, metrics, plots and report."""
        if self.trainer.is_global_zero:
            rows = self._callback(CollectRows).rows
            write_test(self.origin, self._callback(CollectPredictions), self.model, self.datamodule, rows)

    def after_predict(self) -> None:
        """Write the predictions."""
        if self.trainer.is_global_zero:
            write_predictions(self.origin, self._callback(CollectPredictions), self.datamodule)

    @property
    def origin(self) -> ResultOrigin:
        """Where the results come from, as it is recorded with them."""
        check, command = self.training_patients, self.command
        return ResultOrigin(command.checkpoint, command.command, check.seen, check.n_tested, check.unknown)

    def _callback(self, kind: type[C]) -> C:
        """The trainer's callback of a class."""
        return next(callback for callback in callbacks_of(self.trainer) if isinstance(callback, kind))


def run(command: CheckedCommand) -> int:
    """Run a checked command.

    Returns:
        0 on success, 130 if interrupted, 128 plus the signal's number if a signal stopped the training; after
        `--help` and the like, the exit code of the Lightning CLI.

    Raises:
        InputError: The configuration has a mistake.
    """
    prepare_libraries()
    checkpoint, fitted = command.config.get("ckpt_path"), {}
    if isinstance(checkpoint, str) and Path(checkpoint).is_file():
        # Refuses in one line what the CLI would report with a traceback.
        fitted = unpack(read_checkpoint(checkpoint)["hyper_parameters"].get("fitted") or {})
    # A parser of the other subcommands would take longer to build than to parse.
    subcommands = {command.verb: LightningCLI.subcommands()[command.verb]}
    members = {"command": command, "fitted": fitted, "subcommands": staticmethod(lambda: subcommands)}
    cli_class = type("_DMMLCLI", (DMMLCLI,), members)
    try:
        cli = cli_class(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            parser_kwargs=PARSER,
            save_config_callback=SaveConfigInRun if command.verb == "fit" else None,
            save_config_kwargs={"save_to_log_dir": False},
            args=command.argv,
        )
    except jsonargparse.ArgumentError as error:
        raise InputError(in_one_line(str(error))) from error
    except TrainingStopped as stop:
        LOGGER.warning("%s; run the same command with --resume to continue from there", stop)
        return 128 + stop.signum
    except SystemExit as stop:  # after --help and --print_config
        return int(stop.code or 0)
    return 130 if cli.trainer.interrupted else 0
