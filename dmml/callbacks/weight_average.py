"""Lightning's exponential moving average of the weights, for models whose size depends on the data."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging


class EMA(EMAWeightAveraging):
    """`EMAWeightAveraging` that starts once the model is built.

    Lightning's callback copies the model before the model's `setup`, in which a dmml model learns the number of genes
    and features, so the copy would be empty. The average is used in validation, in checkpoints and at the end of
    training. Buffers are not averaged: they are statistics of training patients, and the shares that a validation
    chose.

    Args:
        decay: Fraction of the average that remains after an update.
        update_every_n_steps: Number of steps between two updates.
        update_starting_at_step: Step at which averaging starts; None = the first.
    """

    def __init__(self, decay: float = 0.999, update_every_n_steps: int = 1, update_starting_at_step: int | None = None):
        super().__init__(
            use_buffers=False,
            decay=decay,
            update_every_n_steps=update_every_n_steps,
            update_starting_at_step=update_starting_at_step,
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Do nothing, because callbacks are set up before the model is."""

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Start averaging, and load the average of a resumed run."""
        self._begin(trainer, pl_module)
        super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start averaging."""
        self._begin(trainer, pl_module)
        super().on_fit_start(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the averaged weights with the model's buffers, which a validation may have set since the last step."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        current = checkpoint.get("current_model_state", {})
        names = [name for name, _ in pl_module.named_buffers() if name in current]
        checkpoint["state_dict"] = checkpoint["state_dict"] | {name: current[name] for name in names}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the averaged weights to the model, but keep its buffers, which a validation may have set last."""
        buffers = [buffer.clone() for buffer in pl_module.buffers()]
        super().on_train_end(trainer, pl_module)
        for buffer, value in zip(pl_module.buffers(), buffers, strict=True):
            buffer.data.copy_(value)

    def _begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._average_model is None and trainer.state.fn == "fit":
            super().setup(trainer, pl_module, "fit")
