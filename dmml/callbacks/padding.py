"""Measures how much of a run's computation is spent on padding, and suggests options after the first epoch."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

WORTH_TELLING = 0.25
"""Share of padding above which a run prints how to reduce it"""
FEW = 32
"""Tokens per patient up to which padding is negligible, as with one vector per slide instead of tiles"""


class Padding(Callback):
    """Logs `train/padding`, the share of an epoch's tokens that are padding, and prints once what would reduce it.

    All patients of a batch are padded to the size of the largest. The share is a mean over batches, weighted by their
    token positions. It is computed on the device, so that the loop does not wait for it, and logged, so that a resumed
    epoch continues it.
    """

    _longest = 0
    """Number of tokens of the largest patient so far"""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the share of a batch."""
        masks = [bag.mask for bag in batch.bags.values()]
        self._longest = max([self._longest, *(mask.shape[1] for mask in masks)])
        if places := sum(mask.numel() for mask in masks):
            share = 1 - torch.stack([mask.sum() for mask in masks]).sum() / places
            weight = places * trainer.world_size  # Lightning divides it by the world size and rounds down
            pl_module.log("train/padding", share, on_step=False, on_epoch=True, batch_size=weight, sync_dist=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After the first epoch of a run, print the share if it is large."""
        if trainer.current_epoch or not trainer.is_global_zero:
            return
        share = float(trainer.callback_metrics.get("train/padding", 0.0))
        if share > WORTH_TELLING and self._longest > FEW:
            print(
                f"{share:.0%} of what the first epoch computed was padding; data.pack: 16 puts patients of like size "
                "together, data.token_budget bounds a batch by tokens"
            )
