"""Loggers of a fit: those that the config requests, and always the run folder's own metrics table and config."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from dmml.callbacks.metrics_table import MetricsTable
from dmml.errors import InputError, reason_of


class SaveConfigInRun(SaveConfigCallback):
    """Saves `config.yaml` in the run folder; Lightning's callback would save it where the first logger writes."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save the config; called only in the first process, once the config is known to be valid."""
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self.parser.save(self.config, folder / self.config_filename, skip_none=False, overwrite=True, multifile=False)


def run_loggers(requested: Logger | Iterable[Logger] | bool | None, folder: Path) -> list[Logger]:
    """Return the loggers of a run.

    Args:
        requested: `trainer.logger`; None and True stand for TensorBoard's logger.
        folder: Folder of the run.

    Returns:
        The requested loggers, followed by the one that writes `metrics.csv`, without which a run has no training curves.
    """
    if requested is None or requested is True:
        loggers: list[Logger] = [TensorBoardLogger(save_dir=folder, name="", version="")]
    else:
        loggers = [requested] if isinstance(requested, Logger) else list(requested or [])
    table = MetricsTable(folder / "metrics.csv")
    return [*(logger for logger in loggers if _csv_file(logger) != table.path.resolve()), table]


def start_loggers(loggers: Iterable[Logger]) -> None:
    """Start loggers that need an account, a server or a database, so that a run does not begin without them.

    Raises:
        InputError: A logger cannot start.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger | CSVLogger | MetricsTable):  # they only write files
            continue
        try:
            getattr(logger, "experiment", None)
        except Exception as error:  # each package raises exceptions of its own
            raise InputError(
                f"trainer.logger: {type(logger).__name__} cannot start ({reason_of(error)}); correct that, or leave the "
                "logger out, since the run folder has metrics.csv in any case"
            ) from error


def _csv_file(logger: Logger) -> Path | None:
    """Return the table that a logger writes, or None; two loggers must not share a file."""
    if isinstance(logger, CSVLogger):
        return Path(logger.log_dir, "metrics.csv").resolve()
    return logger.path.resolve() if isinstance(logger, MetricsTable) else None
