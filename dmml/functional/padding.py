"""Clearing of padding, so that not even a NaN in it reaches a product or its gradient."""

from __future__ import annotations

import torch
from torch import Tensor


def is_known_full(mask: Tensor) -> bool:
    """Return whether no token is masked, if this can be checked at no cost, and False otherwise.

    The result is always False on a GPU, where reading the mask would make the host wait, and during compilation.
    """
    return mask.device.type == "cpu" and not torch.compiler.is_compiling() and bool(mask.all())


def clear_padding(x: Tensor, mask: Tensor) -> Tensor:
    """Set masked tokens to 0.

    If it is known that no token is masked (`is_known_full`), `x` is returned without a copy.

    Args:
        x: (B, N, d).
        mask: (B, N) bool, True = real token.

    Returns:
        (B, N, d).
    """
    if is_known_full(mask):
        return x
    return torch.where(mask.unsqueeze(-1), x, 0.0)
