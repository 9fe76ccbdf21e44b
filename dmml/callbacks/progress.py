"""Shows the progress of a run: epoch, loss, validation metrics and time left."""

from __future__ import annotations

import logging
import sys
import time

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.utilities.types import STEP_OUTPUT
from tqdm import tqdm

from dmml.progress_bars import is_quiet
from dmml.types import Batch

_logger = logging.getLogger(__name__)


class Progress(ProgressBar):
    """Shows one bar over all epochs in a terminal; without a terminal, logs one line per epoch.

    Neither is shown if dmml's log is limited to warnings, as by `dmml fit -q`.

    The time left is an upper limit, because early stopping may end the run before the last planned epoch.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._bar: tqdm | None = None
        self._start: tuple[float, int] = (0.0, 0)

    def disable(self) -> None:
        """Turn the output off; Lightning calls this on all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Turn the output on."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock and the bar; a resumed run starts at the epochs that are already done."""
        self._start = (time.monotonic(), trainer.current_epoch)
        if self._enabled and sys.stderr.isatty() and not is_quiet():
            n_done = trainer.current_epoch * trainer.num_training_batches
            max_epochs = trainer.max_epochs or -1
            total = trainer.num_training_batches * max_epochs if max_epochs > 0 else None
            self._bar = tqdm(total=total, initial=n_done, unit="batch", dynamic_ncols=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Batch, batch_idx: int
    ) -> None:
        """Advance the bar by one batch."""
        if self._bar is not None:
            self._bar.update()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the line of the epoch."""
        if not self._enabled:
            return
        line = self.line(trainer)
        if self._bar is not None:
            self._bar.set_description_str(line)
        else:
            _logger.info(line)

    def line(self, trainer: Trainer) -> str:
        """Return the epoch, loss, validation metrics and time left as text."""
        n_done, max_epochs = trainer.current_epoch + 1, trainer.max_epochs or -1
        metrics = trainer.callback_metrics
        names = [name for name in ("train/loss", *sorted(metrics)) if name in metrics]
        names = [name for name in dict.fromkeys(names) if name == "train/loss" or name.startswith("val/")]
        values = ", ".join(f"{name} {float(metrics[name]):.3f}" for name in names)
        start_time, start_epoch = self._start
        seconds_per_epoch = (time.monotonic() - start_time) / max(1, n_done - start_epoch)
        is_last = n_done >= max_epochs
        left = "" if is_last else f", at most {_duration(seconds_per_epoch * (max_epochs - n_done))} left"
        return f"epoch {n_done}{f' of {max_epochs}' if max_epochs > 0 else ''}: {values}{left}"

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar after an error, too."""
        self.on_train_end(trainer, pl_module)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
