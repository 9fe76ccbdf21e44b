"""Several linear layers that read the same features, computed as one matrix product."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_COLUMNS = 16
"""On a CPU, matrix products are fastest if their width is a multiple of this."""


def joint_product(features: Tensor, lines: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Apply several linear layers with one pass over the features in memory. Meant for inference.

    Args:
        features: (B, N, D).
        lines: Weight (k, D) and bias (k,) of each layer, in the precision of the features.

    Returns:
        The output (B, N, k) of each layer; all are views of one tensor.
    """
    widths = [len(weight) for weight, _ in lines]
    weights, biases = zip(*lines, strict=True)
    spare = -sum(widths) % _COLUMNS
    weight = torch.cat([*weights, weights[0].new_zeros(spare, features.shape[-1])]).T.contiguous()
    bias = torch.cat([*biases, biases[0].new_zeros(spare)])
    product = torch.addmm(bias, features.flatten(0, 1), weight).view(*features.shape[:-1], -1)
    return list(product.split([*widths, spare], -1)[: len(widths)])
