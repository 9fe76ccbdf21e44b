"""Collects what `test_step` and `predict_step` return into one table, a patient a row."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from dmml.types import Batch


class CollectPredictions(Callback):
    """Keeps predictions of all patients, and the token attention of the first few.

    Steps return `{"predictions": {column: (B,)}, "outcome": {column: [...]}, "output": SubspaceOutput}`. Under several processes the rows are
    gathered, and a patient whom the sampler dealt twice stands there once.

    Args:
        n_attention: Patients whose attention is kept.
    """

    def __init__(self, n_attention: int = 6):
        self.n_attention = n_attention
        self.rows: list[dict[str, Any]] = []
        self.attention: list[dict[str, Any]] = []

    def _collect(self, outputs: dict[str, Any], batch: Batch) -> None:
        columns = {name: values.detach().cpu().double().numpy() for name, values in outputs["predictions"].items()}
        tokens = {m: bag.mask.sum(1).cpu().numpy() for m, bag in batch.bags.items()}
        magnifications = outputs["output"].logits_by_magnification
        for i, patient in enumerate(batch.patient_id):
            row: dict[str, Any] = {"patient_id": patient}
            row |= {name: values[i] for name, values in outputs["outcome"].items()}
            row |= {name: float(values[i]) for name, values in columns.items()}
            row["has_expression"] = int(batch.has_expression[i])
            row |= {f"n_tokens_{m}x": int(tokens[m][i]) if m in tokens else 0 for m in magnifications}
            self.rows.append(row)
            if len(self.attention) < self.n_attention and any(counts[i] for counts in tokens.values()):
                self.attention.append(_token_maps(outputs["output"], batch, i))

    def _gather(self, trainer: Trainer) -> None:
        if trainer.world_size > 1:
            gathered: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(gathered, self.rows)
            self.rows = [row for rows in gathered for row in rows]
        self.rows = list({row["patient_id"]: row for row in self.rows}.values())

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier run."""
        self.rows, self.attention = [], []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect a batch."""
        self._collect(outputs, batch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Bring the ranks together."""
        self._gather(trainer)

    on_predict_start, on_predict_batch_end, on_predict_epoch_end = on_test_start, on_test_batch_end, on_test_epoch_end


def _token_maps(output: Any, batch: Batch, i: int) -> dict[str, Any]:
    """Position, slide and attention of one patient's real tokens, magnification by magnification."""
    maps: dict[str, Any] = {"patient_id": batch.patient_id[i], "bags": {}}
    for m, bag in batch.bags.items():
        real = bag.mask[i]
        maps["bags"][m] = {
            "position": bag.position[i][real].cpu().numpy(),
            "slide": bag.slide[i][real].cpu().numpy(),
            "attention": {s: a[i][real].float().cpu().numpy() for (k, s), a in output.attention.items() if k == m},
        }
    return maps
