"""Stops a run at the first loss that is not finite, names the patients of its batch, and saves the batch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from dmml.atomic_files import atomic_write
from dmml.callbacks.processes import gather
from dmml.errors import InputError
from dmml.types import Batch


class NanGuard(Callback):
    """Checks each training loss one step later, when the device has computed it, so that the loop does not wait for it.

    A loss that is not finite ends the run with the names of the patients of its batch. The batch is saved as plain
    arrays (`numpy.load` reads them). `last.ckpt` of the previous epoch is not affected by what the loss did to the
    weights. All processes end together, whichever of them had the loss, because the others would wait for one that
    ended alone. Under 16-mixed precision the scaler skips steps whose gradients overflow, so this guard checks losses
    only.

    A validation loss, by which the best model is chosen and a run is stopped, ends the run as well. The losses of a
    validation are checked when it is over, and the patients of the first bad batch are named.

    Args:
        folder: Folder in which the batch is saved; None = `default_root_dir`.
        every: Check the loss of every `every`-th batch.
    """

    def __init__(self, folder: str | None = None, every: int = 1):
        if every < 1:
            raise ValueError(f"every must be at least 1; got {every}")
        self.folder, self.every = folder, every
        self._last: tuple[_LossCheck, Batch, int] | None = None
        self._validated: list[tuple[Tensor, list[str]]] = []  # whether the loss of a batch is bad, and its patients

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Batch, batch_idx: int
    ) -> None:
        """Check the loss of the previous step, and keep this step's loss for the next check."""
        self.check_last_loss(trainer)
        if batch_idx % self.every == 0 and outputs is not None:
            loss = outputs if isinstance(outputs, Tensor) else outputs["loss"]
            check = _LossCheck(loss.detach(), trainer.world_size)
            self._last = check, batch, batch_idx  # read a step later, when the device has computed it

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the last loss, before anything is saved."""
        self.check_last_loss(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the last training loss, because `best.ckpt` may be written after a validation."""
        self.check_last_loss(trainer)
        self._validated = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Note on the device whether the loss that the step returned is finite."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, Tensor):
            self._validated.append(((~loss.detach().isfinite()).any(), list(batch.patient_id)))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check all losses of the validation, before anything uses them."""
        validated, self._validated = self._validated, []
        bad = torch.stack([is_bad for is_bad, _ in validated]).tolist() if validated else []
        bad_batches = [patients for (_, patients), is_bad in zip(validated, bad, strict=True) if is_bad]
        message = None
        if bad_batches:
            more = f" and of {len(bad_batches) - 1} more batches" if len(bad_batches) > 1 else ""
            message = (
                f"{', '.join(bad_batches[0])}: the validation loss of this batch{more} is not a finite number (epoch "
                f"{trainer.current_epoch}); check the features and RNA of these patients, and if they are finite, "
                "lower model.lr or clip gradients with trainer.gradient_clip_val"
            )
        self._end(trainer, gather(trainer, message))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Release the stored batch and losses."""
        self._last, self._validated = None, []

    def check_last_loss(self, trainer: Trainer) -> None:
        """Check the stored loss, if there is one; every process must call this.

        Raises:
            InputError: The loss is not finite on some process (`SystemExit` on all processes but the first).
        """
        if self._last is None:
            return
        (check, batch, batch_idx), self._last = self._last, None
        if not check.is_bad_anywhere():
            return
        message = None
        if not math.isfinite(value := float(check.loss)):
            message = self._save_batch(trainer, value, batch, batch_idx)
        self._end(trainer, gather(trainer, message))

    def _end(self, trainer: Trainer, messages: list[str | None]) -> None:
        """End the run if any process reports a bad loss."""
        if not any(messages):
            return
        if trainer.is_global_zero:
            raise InputError("; ".join(filter(None, messages)))
        raise SystemExit(2)  # the first process reports the error

    def _save_batch(self, trainer: Trainer, loss: float, batch: Batch, batch_idx: int) -> str:
        """Save the batch of this process, and return the message that names its patients."""
        folder = Path(self.folder or trainer.default_root_dir)
        path = folder / f"nan_batch_epoch{trainer.current_epoch}_{batch_idx}_rank{trainer.global_rank}.npz"
        write_batch(path, batch)
        return (
            f"{', '.join(batch.patient_id)}: the loss of this batch is {loss} (epoch {trainer.current_epoch}, batch "
            f"{batch_idx}); it was saved as {path}{_likely_cause(batch)}"
        )


class _LossCheck:
    """Finds out whether a loss is not finite on any process, without making the host wait for the device."""

    def __init__(self, loss: Tensor, world_size: int):
        self.loss = loss
        self._is_bad, self._reduction = (~loss.isfinite()).float(), None
        if world_size > 1:
            self._reduction = torch.distributed.all_reduce(self._is_bad, torch.distributed.ReduceOp.MAX, async_op=True)
        self._copied: torch.cuda.Event | None = None
        if loss.is_cuda:  # a later copy would be queued behind the whole next step
            if self._reduction is not None:
                self._reduction.wait()  # makes the stream wait, not the host
            on_host = torch.empty_like(self._is_bad, device="cpu", pin_memory=True)
            self._is_bad = on_host.copy_(self._is_bad, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record()

    def is_bad_anywhere(self) -> bool:
        """Whether the loss is bad on any process; the result is the same on all of them."""
        if self._copied is not None:
            self._copied.synchronize()  # waits for the step of this loss, not for the next one
        elif self._reduction is not None:
            self._reduction.wait()
        return bool(self._is_bad)


def write_batch(path: Path, batch: Batch) -> None:
    """Write a batch as plain arrays, completely or not at all; `numpy.load(path, allow_pickle=False)` reads it."""
    tensors = {"parent": batch.parent, "has_expression": batch.has_expression}
    for m, bag in batch.bags.items():
        tensors |= {f"{m}x_{name}": getattr(bag, name) for name in ("features", "position", "mask", "slide")}
    tensors |= {f"expression_{s}": values for s, values in batch.expression.items()}
    tensors |= {f"target_{name}": values for name, values in batch.target.items()}
    arrays: dict[str, Any] = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
    with atomic_write(path) as partial:
        np.savez(partial, **arrays, patient_id=np.array(batch.patient_id))


def _likely_cause(batch: Batch) -> str:
    """Return the end of the message: which input values are not finite, or that all are finite."""
    for m, bag in batch.bags.items():
        bad = (~bag.features.isfinite().all(2) & bag.mask).any(1)
        if bad.any():
            names = [patient for patient, is_bad in zip(batch.patient_id, bad.tolist(), strict=True) if is_bad]
            return f"; features at {m}x of {', '.join(names)} are not finite: extract these slides again"
    for s, values in batch.expression.items():
        bad = ~values.isfinite().all(1)
        if bad.any():
            names = [patient for patient, is_bad in zip(batch.patient_id, bad.tolist(), strict=True) if is_bad]
            return f"; RNA ({s}) of {', '.join(names)} is not finite: check its values"
    return "; the data are finite, so lower model.lr or clip gradients with trainer.gradient_clip_val"
