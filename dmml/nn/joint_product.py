"""Several linear layers that read the same features, computed as one matrix product."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_WIDTH_MULTIPLE = 16
"""On a CPU, matrix products are fastest if their width is a multiple of this."""


def joint_product(features: Tensor, layers: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Apply several linear layers with one pass over the features in memory. Meant for inference.

    Args:
        features: (B, N, D).
        layers: Weight (k, D) and bias (k,) of each layer, in the precision of the features.

    Returns:
        The output (B, N, k) of each layer; all are views of one tensor.
    """
    widths = [len(weight) for weight, _ in layers]
    weights, biases = zip(*layers, strict=True)
    n_padding = -sum(widths) % _WIDTH_MULTIPLE
    weight = torch.cat([*weights, weights[0].new_zeros(n_padding, features.shape[-1])]).T.contiguous()
    bias = torch.cat([*biases, biases[0].new_zeros(n_padding)])
    product = torch.addmm(bias, features.flatten(0, 1), weight).view(*features.shape[:-1], -1)
    return list(product.split([*widths, n_padding], -1)[: len(widths)])
