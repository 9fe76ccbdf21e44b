"""Optimiser and learning-rate schedule of all modules: by default AdamW with a warm-up and a cosine over all steps.

Both can be replaced in a config, by `model.init_args.optimizer` and `model.init_args.lr_scheduler`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule
from torch.optim.lr_scheduler import ReduceLROnPlateau

from dmml.errors import InputError

if TYPE_CHECKING:
    from lightning.pytorch.cli import LRSchedulerCallable
    from lightning.pytorch.utilities.types import OptimizerLRScheduler

PATIENCE = 12
"""Number of epochs without a better inner validation loss after which training stops"""


def adamw(
    module: LightningModule, lr: float, weight_decay: float, decay_of_parts: Mapping[str, float]
) -> torch.optim.AdamW:
    """Build the default optimiser.

    Args:
        module: Module whose parameters are optimised.
        lr: Peak learning rate.
        weight_decay: Weight decay of all parameters that belong to no part in `decay_of_parts`.
        decay_of_parts: {name of a part, e.g. `embed.10x_tumor`: weight decay}.
    """
    trainer = module._trainer
    # Not fused under mixed precision: a fused AdamW unscales gradients in its step, after callbacks and clipping.
    is_mixed = trainer is not None and "mixed" in str(trainer.precision)
    groups = _groups(module, weight_decay, decay_of_parts)
    return torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay, fused=not is_mixed)


def with_warmup_and_cosine(
    module: LightningModule, optimizer: torch.optim.Optimizer, warmup: float
) -> OptimizerLRScheduler:
    """Add the default schedule to an optimiser; if the run has no planned end, the rate stays as it is.

    Args:
        module: Module that is trained.
        optimizer: Its optimiser, whose rates are the peak rates.
        warmup: Share of the steps over which the rate rises from 0; afterwards it falls to 0 along a cosine.

    Departs from the released code, which steps its cosine every batch although its period is given in epochs, so that
    the rate swings from its peak to 0 and back every twenty batches.
    """
    trainer = module._trainer
    steps = trainer.estimated_stepping_batches if trainer is not None and trainer.state.fn == "fit" else math.inf
    if not math.isfinite(steps):
        return optimizer
    rise = max(1, round(warmup * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share_of_rate(step, rise, int(steps)))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def with_scheduler(optimizer: torch.optim.Optimizer, build: LRSchedulerCallable) -> OptimizerLRScheduler:
    """Add a user's schedule to an optimiser. As usual in Lightning, it advances once per epoch.

    Args:
        optimizer: The optimiser.
        build: Builds the schedule. A `ReduceLROnPlateau` watches its `monitor`, or `val/loss` if it has none.
    """
    scheduler = build(optimizer)
    if isinstance(scheduler, ReduceLROnPlateau):
        monitor = getattr(scheduler, "monitor", "val/loss")
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": monitor}}
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def check_replaced(replacement: str, values: Mapping[str, object], defaults: Mapping[str, object]) -> None:
    """Refuse arguments of the default optimiser or schedule where a config replaces it, because they have no effect.

    Args:
        replacement: `optimizer` or `lr_scheduler`.
        values: {argument: value} of the model.
        defaults: {argument: default value}.

    Raises:
        InputError: An argument has another value than its default.
    """
    for name, value in values.items():
        if value != defaults[name]:
            raise InputError(
                f"model.{name}: {value} has no effect, because model.{replacement} replaces what it belongs to; leave "
                f"{name} out, or set it in model.{replacement}.init_args"
            )


def _groups(module: LightningModule, weight_decay: float, decay_of_parts: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the parameter groups, one for each weight decay; a group without parameters is left out."""
    groups: dict[float, list[torch.nn.Parameter]] = {weight_decay: []}
    for name, parameter in module.named_parameters():
        decay = next((value for part, value in decay_of_parts.items() if name.startswith(f"{part}.")), weight_decay)
        groups.setdefault(decay, []).append(parameter)
    return [{"params": params, "weight_decay": decay} for decay, params in groups.items() if params]


def _share_of_rate(step: int, rise: int, steps: int) -> float:
    """Return the factor of the learning rate: a linear rise to 1 over `rise` steps, then half a cosine down to 0."""
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))
