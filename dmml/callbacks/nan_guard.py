"""Stops at the first loss that is no number, names the patients, and keeps the batch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from dmml.callbacks.processes import gather
from dmml.errors import InputError
from dmml.types import Batch


class NanGuard(Callback):
    """Looks at a loss a step later, when the device has computed it, so that the loop does not wait for it.

    A loss that is no number ends the run with the names of the patients of its batch, which is written beside the
    checkpoints as plain arrays (`numpy.load` reads it). `last.ckpt` of the epoch before is untouched by what
    the loss did to the weights. Several processes end together, whichever of them met the loss: one that ended alone
    would leave the others waiting for it. Under 16-mixed precision a gradient that overflows is the scaler's to skip,
    and is none of this guard's business; a loss is. A loss in validation, by which the best model is chosen and a run
    stopped, ends the run as well; all of a validation is looked at when it is over, and its patients are named.

    Args:
        folder: Where the batch goes; None = `default_root_dir`.
        every: Look at the loss of every so many steps.
    """

    def __init__(self, folder: str | None = None, every: int = 1):
        if every < 1:
            raise ValueError(f"every must be at least 1; got {every}")
        self.folder, self.every = folder, every
        self._before: tuple[_Told, Batch, int] | None = None
        self._validated: list[tuple[Tensor, list[str]]] = []  # whether a batch is bad, and whose it is

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the loss of the step before; keep this one's for the next look."""
        self.look(trainer)
        if batch_idx % self.every == 0 and outputs is not None:
            loss = outputs["loss"] if isinstance(outputs, dict) else outputs
            told = _Told(loss.detach(), trainer.world_size)
            self._before = told, batch, batch_idx  # read a step later, when the device has long been done

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the last loss, before anything is saved."""
        self.look(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As at the end of an epoch: a validation may write `best.ckpt`."""
        self.look(trainer)
        self._validated = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep whether the loss that the step returns is a number, wherever it was computed."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, Tensor):
            self._validated.append(((~loss.detach().isfinite()).any(), list(batch.patient_id)))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at all losses of the validation, before anything goes by them."""
        validated, self._validated = self._validated, []
        bad = torch.stack([is_bad for is_bad, _ in validated]).tolist() if validated else []
        told = [patients for (_, patients), is_bad in zip(validated, bad, strict=True) if is_bad]
        found = None
        if told:
            more = f" and of {len(told) - 1} more batches" if len(told) > 1 else ""
            found = (
                f"{', '.join(told[0])}: the validation loss of this batch{more} is no finite number (epoch "
                f"{trainer.current_epoch}); look at the features and RNA of these patients, and if they are finite, "
                "lower model.lr or clip with trainer.gradient_clip_val"
            )
        self._end(trainer, gather(trainer, found))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let the batch go."""
        self._before, self._validated = None, []

    def look(self, trainer: Trainer) -> None:
        """Look at the loss that is kept, if there is one; every process must.

        Raises:
            InputError: It is no number on any of the processes (`SystemExit` on all but the first).
        """
        if self._before is None:
            return
        (told, batch, batch_idx), self._before = self._before, None
        if not told.bad_anywhere():
            return
        found = None
        if not math.isfinite(value := float(told.loss)):
            found = self._keep(trainer, value, batch, batch_idx)
        self._end(trainer, gather(trainer, found))

    def _end(self, trainer: Trainer, everyone: list[str | None]) -> None:
        """End the run if any process has found something."""
        if not any(everyone):
            return
        if trainer.is_global_zero:
            raise InputError("; ".join(filter(None, everyone)))
        raise SystemExit(2)  # the first process says it

    def _keep(self, trainer: Trainer, loss: float, batch: Batch, batch_idx: int) -> str:
        """Write the batch of this process, and say whose it is."""
        folder = Path(self.folder or trainer.default_root_dir)
        path = folder / f"nan_batch_epoch{trainer.current_epoch}_{batch_idx}_rank{trainer.global_rank}.npz"
        write_batch(path, batch)
        return (
            f"{', '.join(batch.patient_id)}: the loss of this batch is {loss} (epoch {trainer.current_epoch}, batch "
            f"{batch_idx}); it is kept in {path}{_suspect(batch)}"
        )


class _Told:
    """Whether a loss is no number on any of the processes, asked without waiting for the answer."""

    def __init__(self, loss: Tensor, world: int):
        self.loss = loss
        self._bad, self._asked = (~loss.isfinite()).float(), None
        if world > 1:
            self._asked = torch.distributed.all_reduce(self._bad, torch.distributed.ReduceOp.MAX, async_op=True)
        self._copied = None
        if loss.is_cuda:  # a copy asked for later would stand in line behind the whole next step
            if self._asked is not None:
                self._asked.wait()  # the stream, not the processor
            self._bad = torch.empty_like(self._bad, device="cpu", pin_memory=True).copy_(self._bad, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record()

    def bad_anywhere(self) -> bool:
        """The same answer on every process."""
        if self._copied is not None:
            self._copied.synchronize()  # this loss's step, not the one that has been begun since
        elif self._asked is not None:
            self._asked.wait()
        return bool(self._bad)


def write_batch(path: Path, batch: Batch) -> None:
    """Write a batch as plain arrays, whole or not at all; `numpy.load(path, allow_pickle=False)` reads it."""
    arrays: dict[str, Any] = {"patient_id": np.array(batch.patient_id), "parent": batch.parent}
    for m, bag in batch.bags.items():
        arrays |= {f"{m}x_{name}": getattr(bag, name) for name in ("features", "position", "mask", "slide")}
    arrays |= {f"expression_{s}": values for s, values in batch.expression.items()}
    arrays |= {f"target_{name}": values for name, values in batch.target.items()}
    arrays["has_expression"] = batch.has_expression
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.part.npz")
    np.savez(part, **{name: x.cpu().numpy() if isinstance(x, Tensor) else x for name, x in arrays.items()})
    part.replace(path)


def _suspect(batch: Batch) -> str:
    """Where in the batch a value is no number, if it is in the data."""
    for m, bag in batch.bags.items():
        bad = (~bag.features.isfinite().all(2) & bag.mask).any(1)
        if bad.any():
            names = [patient for patient, is_bad in zip(batch.patient_id, bad.tolist(), strict=True) if is_bad]
            return f"; features at {m}x of {', '.join(names)} are not finite: extract these slides again"
    for s, values in batch.expression.items():
        bad = ~values.isfinite().all(1)
        if bad.any():
            names = [patient for patient, is_bad in zip(batch.patient_id, bad.tolist(), strict=True) if is_bad]
            return f"; RNA ({s}) of {', '.join(names)} is not finite: look at its values"
    return "; the data are finite, so lower model.lr or clip with trainer.gradient_clip_val"
