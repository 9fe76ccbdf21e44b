"""Activations of intermediate values that nothing else reads."""

from __future__ import annotations

import torch
from torch import Tensor


def gelu(x: Tensor) -> Tensor:
    """GELU, elementwise; without gradients in place, which saves memory as large as the tokens.

    Args:
        x: Any shape; its values may be lost.
    """
    return torch.nn.functional.gelu(x) if torch.is_grad_enabled() else torch.ops.aten.gelu_(x)


def gated(value: Tensor, gate: Tensor) -> Tensor:
    """tanh(value) ⊙ σ(gate), elementwise; without gradients in place.

    Args:
        value: Any shape; its values may be lost.
        gate: Of the same shape; its values may be lost.

    Source: Ilse et al. 2018, eq. 9.
    """
    if torch.is_grad_enabled():
        return value.tanh() * gate.sigmoid()
    return value.tanh_().mul_(gate.sigmoid_())
