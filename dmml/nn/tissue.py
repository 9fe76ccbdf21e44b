"""The tissue-specific part of the logits, which belongs to neither subspace."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dmml.functional.activation import gelu
from dmml.functional.padding import clear_padding
from dmml.nn.pooling import GatedPool
from dmml.nn.standardised import StandardisedLinear

WIDTH = 32
"""Channels of the tokens: a quarter of the subspaces' projection, and so a quarter of its cost."""
_GATE_GAIN, _HEAD_STD = 3.0, 0.5


class TissueSpecificHead(nn.Module):
    """Predict logits from one magnification, bypassing both subspaces: a narrow gated attention pool and linear layer.

    The subspaces, and the tokens that they read, are tied to expression programs. Tissue that no program describes,
    such as a rare tissue that no gene reflects, reaches the outcome here. The projection is not shared with the
    subspaces, because there the gradients of the many programs drown that of a rare tissue (with a shared projection
    `benchmarks/rare_signal.py` stays at chance).

    A narrow head learns as fast as a wide one if it starts from larger weights, so the gate, its scores and the last
    layer are initialised larger than by PyTorch's default. The last layer has no bias, since the subspaces' head has
    one: without tissue the logits are 0.

    Args:
        n_features: Width D of the encoder's features.
        n_outputs: Number of outputs C.
        width: Number of channels of a token.
        att_dim: Width of the attention gate.
        dropout: Share of the pooled token's entries that are dropped in training.

    Shape:
        features (B, N, D) with zeros at padding, mask (B, N) → logits (B, C), 0 for a bag without tokens, and
        attention (B, N).

    Source: Ilse et al. 2018.
    """

    def __init__(self, n_features: int, n_outputs: int, width: int = WIDTH, att_dim: int = 64, dropout: float = 0.0):
        super().__init__()
        self.project = StandardisedLinear(n_features, width)
        self.pool = GatedPool(width, att_dim)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, n_outputs, bias=False)
        nn.init.normal_(self.linear.weight, std=_HEAD_STD)
        with torch.no_grad():
            for layer in (self.pool.value_and_gate, self.pool.score):
                layer.weight.mul_(_GATE_GAIN)

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Pool the real tokens and predict the logits from them."""
        return self.pool_projected(self.project(features), mask)

    def pool_projected(self, projected: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Apply `forward` to features that are already projected (B, N, width), with the mask (B, N)."""
        pooled, attention = self.pool(self._tokens(projected, mask), mask)
        return self.linear(self.dropout(pooled)), attention

    def tile_logits(self, features: Tensor, mask: Tensor) -> Tensor:
        """Contribution (B, N, C) of each tile to the logits of `forward` without dropout: attention times logits."""
        tokens = self._tokens(self.project(features), mask)
        return self.linear(tokens) * self.pool(tokens, mask)[1].unsqueeze(-1)

    def _tokens(self, projected: Tensor, mask: Tensor) -> Tensor:
        return clear_padding(gelu(projected), mask)
