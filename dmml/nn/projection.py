"""Projection of encoder features to tokens for both subspaces, and the fork at which their gradients meet."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from dmml.functional.activation import gelu
from dmml.functional.padding import clear_padding
from dmml.nn.standardised import StandardisedLinear
from dmml.types import GradientRule


def clean_features(features: Tensor, mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Cast features to the precision of a layer's weights and, if gradients are enabled, set padding to 0.

    Args:
        features: (B, N, D) in any precision.
        mask: (B, N) bool.
        dtype: Precision of the weights.
    """
    features = features.to(dtype)
    # Without gradients, padding is cleared after the product. With gradients, a NaN would reach the weights as 0 · NaN.
    return clear_padding(features, mask) if torch.is_grad_enabled() else features


class TokenProjection(nn.Module):
    """Project features to tokens by a linear layer, layer norm and GELU.

    This is the expensive product of a magnification, so it is computed once.

    Args:
        n_features: Width D of the encoder's features.
        width: Width d of the tokens.
        dropout: Share of channels that are dropped in training. They are the same for all tokens of a patient, because
            noise drawn separately for each token would average out over a slide.

    Shape:
        features (B, N, D) from `clean_features`, mask (B, N) → (B, N, d), 0 at masked tokens.
    """

    def __init__(self, n_features: int, width: int, dropout: float = 0.1):
        super().__init__()
        self.linear = StandardisedLinear(n_features, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Project features to tokens."""
        return self.finish(self.linear(features), mask)

    def finish(self, projected: Tensor, mask: Tensor) -> Tensor:
        """Apply the steps after the linear layer. (B, N, d), (B, N) → (B, N, d)."""
        tokens = gelu(self.norm(projected))
        if self.training and self.dropout.p:
            tokens = tokens * self.dropout(tokens.new_ones(len(tokens), 1, tokens.shape[-1]))
        return clear_padding(tokens, mask)


class Narrow(nn.Sequential):
    """Linear bottleneck (B, d) → (B, d), which limits what the tissue can add to a subspace's embedding.

    Both subspaces read the same tokens. Without a bottleneck, each would carry everything that the tissue shows, and a
    linear probe would recover the other subspace's factors from it. A few dimensions are soon filled by what the
    subspace is for. The bottleneck also keeps the model from memorising a small number of patients.

    Args:
        width: Width d of the embedding.
        rank: Width of the bottleneck.
    """

    def __init__(self, width: int, rank: int):
        narrow, widen = nn.Linear(width, rank, bias=False), nn.Linear(rank, width)
        super().__init__(narrow, widen)
        # PyTorch's default would leave a ninth of the variance, and slow the pool's learning by as much.
        nn.init.normal_(narrow.weight, std=width**-0.5)
        nn.init.normal_(widen.weight, std=2 * rank**-0.5)


def program_embedding(n_programs: int, width: int, rank: int) -> nn.Module:
    """Layer from program scores (B, P) to their part of an embedding (B, d); without programs, a `Narrow` layer."""
    return nn.Linear(n_programs, width, bias=False) if n_programs else Narrow(width, rank)


class _ForkContext(Protocol):
    """What `_Fork` keeps between forward and backward."""

    rule: GradientRule | None


class _Fork(torch.autograd.Function):
    """Identity with two outputs. After backward only the sum of their gradients is left, so a rule must act here."""

    @staticmethod
    def forward(ctx: _ForkContext, tokens: Tensor, rule: GradientRule | None) -> tuple[Tensor, Tensor]:
        ctx.rule = rule
        return tokens.view_as(tokens), tokens.view_as(tokens)

    @staticmethod
    def backward(ctx: _ForkContext, grad_tumor: Tensor, grad_tme: Tensor) -> tuple[Tensor, None]:
        if ctx.rule is not None:
            grad_tumor, grad_tme = ctx.rule(grad_tumor, grad_tme)
        return grad_tumor + grad_tme, None


def fork(tokens: Tensor, rule: GradientRule | None) -> tuple[Tensor, Tensor]:
    """Pass the same tokens (B, N, d) to both subspaces; in backward, `rule` gets both gradients before their sum."""
    if rule is None:
        return tokens, tokens
    return _Fork.apply(tokens, rule)
