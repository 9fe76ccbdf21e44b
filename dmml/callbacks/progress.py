"""Shows the progress of a run: epoch, loss, validation metrics and time left."""

from __future__ import annotations

import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm


class Progress(ProgressBar):
    """Shows one bar over all epochs in a terminal; without a terminal, prints one line per epoch.

    The time left is an upper limit, because early stopping may end the run before the last planned epoch.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._bar: tqdm | None = None
        self._begun: tuple[float, int] = (0.0, 0)

    def disable(self) -> None:
        """Turn the output off; Lightning calls this on all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Turn the output on."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock and the bar; a resumed run starts at the epochs that are already done."""
        self._begun = (time.monotonic(), trainer.current_epoch)
        if self._enabled and sys.stderr.isatty():
            done = trainer.current_epoch * trainer.num_training_batches
            total = trainer.num_training_batches * trainer.max_epochs if (trainer.max_epochs or -1) > 0 else None
            self._bar = tqdm(total=total, initial=done, unit="batch", dynamic_ncols=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
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
            print(line, flush=True)

    def line(self, trainer: Trainer) -> str:
        """Return the epoch, loss, validation metrics and time left as text."""
        done, last = trainer.current_epoch + 1, trainer.max_epochs or -1
        figures = trainer.callback_metrics
        names = [name for name in ("train/loss", *sorted(figures)) if name in figures]
        names = [name for name in dict.fromkeys(names) if name == "train/loss" or name.startswith("val/")]
        told = ", ".join(f"{name} {float(figures[name]):.3f}" for name in names)
        seconds = (time.monotonic() - self._begun[0]) / max(1, done - self._begun[1])
        left = f", at most {_words(seconds * (last - done))} left" if last > done else ""
        return f"epoch {done}{f' of {last}' if last > 0 else ''}: {told}{left}"

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar after an error, too."""
        self.on_train_end(trainer, pl_module)


def _words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
