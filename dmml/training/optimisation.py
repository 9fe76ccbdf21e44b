"""How a module's weights are moved: AdamW with a warm-up and a cosine over the true number of steps."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import LightningModule

PATIENCE = 12
"""Epochs without a better inner validation loss after which training stops."""


def adamw_with_cosine(
    module: LightningModule,
    lr: float,
    weight_decay: float,
    warmup: float,
    stronger: dict[str, float] | None = None,
) -> torch.optim.Optimizer | dict[str, Any]:
    """What `configure_optimizers` returns.

    Args:
        module: Whose parameters; without an end in sight the rate stays `lr`.
        lr: Learning rate at its height.
        weight_decay: Of AdamW.
        warmup: Share of the steps in which the rate rises from 0; then it falls to 0 along a cosine.
        stronger: {name of a part, e.g. `embed.10x_tumor`: its own weight decay}, where the general one leaves a part
            too free.

    Departs from the released code, whose cosine is stepped per batch with a period of epochs: there the rate swings
    from its height to 0 and back every twenty batches.
    """
    trainer = module._trainer
    # Under mixed precision not fused: a fused AdamW unscales inside its step, behind callbacks and clipping.
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
    """Parameter groups, one for each weight decay; a group without parameters is left out."""
    groups: dict[float, list[torch.nn.Parameter]] = {weight_decay: []}
    for name, parameter in module.named_parameters():
        own = next((decay for part, decay in stronger.items() if name.startswith(f"{part}.")), weight_decay)
        groups.setdefault(own, []).append(parameter)
    return [{"params": params, "weight_decay": decay} for decay, params in groups.items() if params]


def _share_of_rate(step: int, rise: int, steps: int) -> float:
    """Factor of the learning rate at a step: linear up to 1 over `rise` steps, then half a cosine down to 0."""
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))
