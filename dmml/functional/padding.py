"""Padding cleared, so that not even a NaN in it reaches a product or its gradient."""

from __future__ import annotations

import torch
from torch import Tensor


def clear_padding(x: Tensor, mask: Tensor) -> Tensor:
    """0 at masked tokens.

    Where nothing is masked the copy is saved, if looking costs nothing: on a GPU a look at the mask would make the host
    wait, and there the copy is cheap.

    Args:
        x: (B, N, d).
        mask: (B, N) bool, True = real token.

    Returns:
        (B, N, d).
    """
    if mask.device.type == "cpu" and not torch.compiler.is_compiling() and bool(mask.all()):
        return x
    return torch.where(mask.unsqueeze(-1), x, 0.0)
