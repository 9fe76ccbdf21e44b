"""Lightning's exponential moving average of the weights, for models that take their size from the data."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging


class EMA(EMAWeightAveraging):
    """`EMAWeightAveraging`, begun when the model is built.

    Lightning's copies the model before the model's own `setup`, where a model of dmml learns how many genes and
    features there are; its copy would be empty. Validation, checkpoints and the end of training use the average.
    Buffers are not averaged: they are statistics of training patients, and the shares that a validation chose.

    Args:
        decay: Share of the average that a step keeps.
        update_every_n_steps: Steps between two updates.
        update_starting_at_step: First step of the average; None = the first.
    """

    def __init__(self, decay: float = 0.999, update_every_n_steps: int = 1, update_starting_at_step: int | None = None):
        super().__init__(
            use_buffers=False,
            decay=decay,
            update_every_n_steps=update_every_n_steps,
            update_starting_at_step=update_starting_at_step,
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Not yet: callbacks are set up before the model is."""

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Begin, and take over the average of a resumed run."""
        self._begin(trainer, pl_module)
        super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin."""
        self._begin(trainer, pl_module)
        super().on_fit_start(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the average of the weights with the model's own buffers: a validation may have set them since a step."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        own = checkpoint.get("current_model_state", {})
        names = [name for name, _ in pl_module.named_buffers() if name in own]
        checkpoint["state_dict"] = checkpoint["state_dict"] | {name: own[name] for name in names}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the model the average of the weights, and leave its own buffers: a validation may have set them last."""
        own = [buffer.clone() for buffer in pl_module.buffers()]
        super().on_train_end(trainer, pl_module)
        for buffer, value in zip(pl_module.buffers(), own, strict=True):
            buffer.data.copy_(value)

    def _begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._average_model is None and trainer.state.fn == "fit":
            super().setup(trainer, pl_module, "fit")
