"""Measures how much of a run's computation is spent on padding, and suggests options after the first epoch."""

from __future__ import annotations

import logging

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT

from dmml.types import Batch

MAX_PADDING = 0.25
"""Fraction of padding above which a run says how to reduce it"""
FEW_TOKENS = 32
"""Tokens per patient up to which padding is negligible, as with one vector per slide instead of tiles"""
_logger = logging.getLogger(__name__)


class Padding(Callback):
    """Logs `train/padding`, the fraction of an epoch's tokens that are padding, and says once what would reduce it.

    All patients of a batch are padded to the size of the largest. The fraction is a mean over batches, weighted by their
    token positions. It is computed on the device, so that the loop does not wait for it, and logged, so that a resumed
    epoch continues it.
    """

    _max_tokens = 0
    """Number of tokens of the largest patient so far"""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Batch, batch_idx: int
    ) -> None:
        """Log the fraction of a batch."""
        masks = [bag.mask for bag in batch.bags.values()]
        self._max_tokens = max([self._max_tokens, *(mask.shape[1] for mask in masks)])
        if n_positions := sum(mask.numel() for mask in masks):
            fraction = 1 - torch.stack([mask.sum() for mask in masks]).sum() / n_positions
            weight = n_positions * trainer.world_size  # Lightning divides it by the world size and rounds down
            pl_module.log("train/padding", fraction, on_step=False, on_epoch=True, batch_size=weight, sync_dist=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After the first epoch of a run, say how to reduce padding if there is much of it."""
        if trainer.current_epoch or not trainer.is_global_zero:
            return
        fraction = float(trainer.callback_metrics.get("train/padding", 0.0))
        if fraction > MAX_PADDING and self._max_tokens > FEW_TOKENS:
            _logger.info(
                "%.0f%% of what the first epoch computed was padding; data.pack: 16 puts patients of similar size "
                "together, data.token_budget limits a batch by its number of tokens",
                100 * fraction,
            )
