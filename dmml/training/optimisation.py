"""Optimiser of all modules: AdamW with a warm-up and a cosine schedule over the actual number of steps."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import LightningModule

PATIENCE = 12
"""Number of epochs without a better inner validation loss after which training stops"""


def adamw_with_cosine(
    module: LightningModule,
    lr: float,
    weight_decay: float,
    warmup: float,
    stronger: dict[str, float] | None = None,
) -> torch.optim.Optimizer | dict[str, Any]:
    """Build the optimiser and schedule that `configure_optimizers` returns.

    Args:
        module: Module whose parameters are optimised. If its run has no planned end, the rate stays at `lr`.
        lr: Peak learning rate.
        weight_decay: Weight decay of AdamW.
        warmup: Share of the steps over which the rate rises from 0; afterwards it falls to 0 along a cosine.
        stronger: {name of a part, e.g. `embed.10x_tumor`: weight decay}, for parts that `weight_decay` restricts too
            little.

    Departs from the released code, which steps its cosine every batch although its period is given in epochs, so that
    the rate swings from its peak to 0 and back every twenty batches.
    """
    trainer = module._trainer
    # Not fused under mixed precision: a fused AdamW unscales gradients in its step, after callbacks and clipping.
    mixed = trainer is not None and "mixed" in str(trainer.precision)
    groups = _groups(module, weight_decay, stronger or {})
    optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay, fused=not mixed)
    steps = trainer.estimated_stepping_batches if trainer is not None and trainer.state.fn == "fit" else math.inf
    if not math.isfinite(steps):
        return optimizer
    rise = max(1, round(warmup * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share_of_rate(step, rise, int(steps)))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _groups(module: LightningModule, weight_decay: float, stronger: dict[str, float]) -> list[dict[str, Any]]:
    """Return the parameter groups, one for each weight decay; a group without parameters is left out."""
    groups: dict[float, list[torch.nn.Parameter]] = {weight_decay: []}
    for name, parameter in module.named_parameters():
        own = next((decay for part, decay in stronger.items() if name.startswith(f"{part}.")), weight_decay)
        groups.setdefault(own, []).append(parameter)
    return [{"params": params, "weight_decay": decay} for decay, params in groups.items() if params]


def _share_of_rate(step: int, rise: int, steps: int) -> float:
    """Return the factor of the learning rate: a linear rise to 1 over `rise` steps, then half a cosine down to 0."""
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))
