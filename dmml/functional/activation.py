"""Activations of intermediate values that nothing else reads."""

from __future__ import annotations

import torch
from torch import Tensor


def gelu(x: Tensor) -> Tensor:
    """GELU, elementwise; without gradients in place, which saves memory as large as the tokens.

    Args:
        x: Any shape; its values may be lost.
    """
    if torch.is_grad_enabled():
        return torch.nn.functional.gelu(x)
    return torch.ops.aten.gelu_(
        x.contiguous()
    )  # on strided values, such as a part of a product, it is many times slower


def gated(value: Tensor, gate: Tensor) -> Tensor:
    """tanh(value) ⊙ σ(gate), elementwise; without gradients in place.

    Args:
        value: Any shape; its values may be lost.
        gate: Of the same shape; its values may be lost.

    Source: Ilse et al. 2018, eq. 9.
    """
    if torch.is_grad_enabled():
        return value.tanh() * gate.sigmoid()
    if value.dtype == torch.float32:
        value = (
            value.mul_(2).sigmoid_().mul_(2).sub_(1)
        )  # the same to rounding; on a CPU a quarter of the time of tanh_
    else:
        value = value.tanh_()
    return value.mul_(gate.sigmoid_())
