"""What a model logs while it is trained: figures that do not depend on how many processes share the patients."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torchmetrics import MetricCollection

from dmml.tasks import Task
from dmml.types import Batch


class LoggedModule(LightningModule):
    """Logs training terms as means over patients, and validates over all validation patients.

    Lightning weighs a mean by the number of patients, averages that number over processes as an integer, and rounds it
    down: of an odd number the mean comes out too large. Hence the weights and sums here.
    """

    task: Task
    validation_metrics: MetricCollection

    def __init__(self) -> None:
        super().__init__()
        self._validated: list[Tensor] = []  # of each batch: (2,) summed loss, patients

    def log_mean(self, name: str, value: Tensor, patients: int, prog_bar: bool = False) -> None:
        """Log the mean over an epoch's patients of what is a mean over `patients` of a batch."""
        # An integer also when it is divided by the processes; without a Trainer nothing is logged.
        weight = patients * (1 if self._trainer is None else self.trainer.world_size)
        self.log(name, value, on_step=False, on_epoch=True, batch_size=weight, prog_bar=prog_bar, sync_dist=True)

    def validated_logits(self, batch: Batch) -> Tensor:
        """(B, C) logits that are validated."""
        raise NotImplementedError

    def on_validation_epoch_start(self) -> None:
        """Forget the validation before."""
        self._validated = []
        self.validation_metrics.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Negative log-likelihood, which is returned, and the task's metrics, over observed patients."""
        logits, observed = self.validated_logits(batch), batch.target["observed"]
        count = observed.sum()
        loss = -self.task.log_likelihood(logits, batch.target).sum() / count.clamp_min(1)
        loss = loss if loss.device.type == "mps" else loss.double()  # processes add up the same, in whatever order
        self._validated.append(torch.stack([loss * count, count.to(loss.dtype)]))
        if observed.any():
            self.validation_metrics.update(logits[observed], {k: v[observed] for k, v in batch.target.items()})
        return loss

    def on_validation_epoch_end(self) -> None:
        """Mean loss and metrics over the whole of the validation patients."""
        total, count = self.trainer.strategy.reduce(torch.stack(self._validated).sum(0), reduce_op="sum")
        figures = {"val/loss": total / count.clamp_min(1)} | self.validation_metrics.compute()
        # Every process has the same: the largest of them is no rounding away from it.
        self.log_dict(figures, prog_bar=True, reduce_fx="max", sync_dist=True)
