"""Base of modules whose logged values do not depend on how many processes share the patients."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torchmetrics import MetricCollection

from dmml.networks.checkpoint_content import FORMAT, FORMAT_KEY, check_format
from dmml.tasks import Task
from dmml.types import Batch


class LoggedModule(LightningModule):
    """Logs training terms as means over patients, and validates over all validation patients.

    Lightning weights a mean by the number of patients, but averages that number over processes as an integer and rounds
    it down, so that the mean is too large when the number is odd. This class therefore uses its own weights and sums.
    """

    task: Task
    validation_metrics: MetricCollection

    def __init__(self) -> None:
        super().__init__()
        self._validated: list[Tensor] = []  # for each batch: (2,) summed loss and number of patients

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record the format number."""
        checkpoint[FORMAT_KEY] = FORMAT

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another format."""
        check_format(checkpoint)

    def log_mean(self, name: str, value: Tensor, patients: int, prog_bar: bool = False) -> None:
        """Log the mean over an epoch's patients of a value that is the mean over `patients` patients of one batch."""
        # A multiple of the world size, so that dividing by it leaves an integer; without a Trainer nothing is logged.
        weight = patients * (1 if self._trainer is None else self.trainer.world_size)
        self.log(name, value, on_step=False, on_epoch=True, batch_size=weight, prog_bar=prog_bar, sync_dist=True)

    def validated_logits(self, batch: Batch) -> Tensor:
        """Return the logits (B, C) that are validated."""
        raise NotImplementedError

    def on_validation_epoch_start(self) -> None:
        """Discard the results of the previous validation."""
        self._validated = []
        self.validation_metrics.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the negative log-likelihood, and update the task's metrics, both over observed patients."""
        logits, observed = self.validated_logits(batch), batch.target["observed"]
        count = observed.sum()
        loss = -self.task.log_likelihood(logits, batch.target).sum() / count.clamp_min(1)
        loss = loss if loss.device.type == "mps" else loss.double()  # sums are then the same in any order
        self._validated.append(torch.stack([loss * count, count.to(loss.dtype)]))
        if observed.any():
            self.validation_metrics.update(logits[observed], {k: v[observed] for k, v in batch.target.items()})
        return loss

    def on_validation_epoch_end(self) -> None:
        """Log the mean loss and the metrics over all validation patients."""
        total, count = self.trainer.strategy.reduce(torch.stack(self._validated).sum(0), reduce_op="sum")
        figures = {"val/loss": total / count.clamp_min(1)} | self.validation_metrics.compute()
        # All processes hold the same values. Their maximum is exact, while a mean over processes could round.
        self.log_dict(figures, prog_bar=True, reduce_fx="max", sync_dist=True)
