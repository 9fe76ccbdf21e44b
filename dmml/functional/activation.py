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
