"""Activations that may overwrite their inputs, for intermediate values that are used only once."""

from __future__ import annotations

import torch
from torch import Tensor


def gelu(x: Tensor) -> Tensor:
    """Apply GELU elementwise; in place if gradients are disabled, which saves a copy of the tokens.

    Args:
        x: Any shape; its values may be overwritten.
    """
    if torch.is_grad_enabled():
        return torch.nn.functional.gelu(x)
    # On strided values, such as a slice of a product, the operation is many times slower.
    return torch.ops.aten.gelu_(x.contiguous())


def gated(value: Tensor, gate: Tensor) -> Tensor:
    """Compute tanh(value) ⊙ σ(gate) elementwise; in place if gradients are disabled.

    Args:
        value: Any shape; its values may be overwritten.
        gate: Same shape as `value`; its values may be overwritten.

    Source: Ilse et al. 2018, eq. 9.
    """
    if torch.is_grad_enabled():
        return value.tanh() * gate.sigmoid()
    if value.dtype == torch.float32:
        # tanh(x) = 2 σ(2x) − 1, equal up to rounding; on a CPU this takes a quarter of the time of tanh_.
        value = value.mul_(2).sigmoid_().mul_(2).sub_(1)
    else:
        value = value.tanh_()
    return value.mul_(gate.sigmoid_())
