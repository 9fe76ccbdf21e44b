"""Sums of tokens by group, such as the tokens of one cluster and slide."""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK = 512
"""Number of tokens that are added sequentially; longer runs would lose precision"""


def sum_by_group(tokens: Tensor, group: Tensor, n_groups: int) -> Tensor:
    """Sum the tokens of each group.

    On a CPU, rows are added one by one, which takes a quarter of the time of a product with a one-hot matrix. On a GPU,
    where such additions would wait for each other, the product is used.

    Args:
        tokens: (B, N, D).
        group: (B, N) int64 in [0, n_groups); −1 = no group.
        n_groups: G.

    Returns:
        (B, G, D).
    """
    if tokens.device.type != "cpu" or torch.compiler.is_compiling():
        index = torch.arange(n_groups, device=group.device).view(1, -1, 1)
        return (group.unsqueeze(1) == index).to(tokens.dtype) @ tokens
    batch, n, dim = tokens.shape
    n_blocks = max(1, -(-n // _BLOCK))
    block = torch.arange(n) // _BLOCK * batch + torch.arange(batch).unsqueeze(1)  # (B, N)
    n_rows = n_blocks * batch * n_groups
    # Tokens without a group are added to a spare row.
    row = torch.where(group < 0, n_rows, block * n_groups + group).flatten()
    sums = tokens.new_zeros(n_rows + 1, dim).index_add_(0, row, tokens.reshape(-1, dim))
    return sums[:-1].view(n_blocks, batch, n_groups, dim).sum(0)
