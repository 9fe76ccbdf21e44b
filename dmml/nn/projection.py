"""From encoder features to tokens, read by both subspaces, and the fork where their two gradients meet."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dmml.functional.activation import gelu
from dmml.functional.padding import clear_padding
from dmml.nn.standardised import StandardisedLinear
from dmml.types import GradientRule


def clean_features(features: Tensor, mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Features as layers read them: in the precision of their weights, and without what stands in the padding.

    Args:
        features: (B, N, D) in any precision.
        mask: (B, N) bool.
        dtype: Of the weights.
    """
    features = features.to(dtype)
    # Without gradients padding is cleared after the product; with them its NaN would reach the weights as 0 · NaN.
    return clear_padding(features, mask) if torch.is_grad_enabled() else features


class TokenProjection(nn.Module):
    """Features → tokens: a linear layer, layer norm and GELU. The expensive product of a magnification, done once.

    Args:
        n_features: D of the encoder.
        width: d of the tokens.
        dropout: Share of channels dropped in training, the same for all tokens of a patient: noise that is drawn anew
            for each token averages out over a slide.

    Shape:
        features (B, N, D) from `clean_features`, mask (B, N) → (B, N, d), 0 at masked tokens.
    """

    def __init__(self, n_features: int, width: int, dropout: float = 0.1):
        super().__init__()
        self.linear = StandardisedLinear(n_features, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Project."""
        return self.finish(self.linear(features), mask)

    def finish(self, projected: Tensor, mask: Tensor) -> Tensor:
        """What follows the product: (B, N, d), (B, N) → (B, N, d)."""
        tokens = gelu(self.norm(projected))
        if self.training and self.dropout.p:
            tokens = tokens * self.dropout(tokens.new_ones(len(tokens), 1, tokens.shape[-1]))
        return clear_padding(tokens, mask)


class Narrow(nn.Sequential):
    """A line through few dimensions, (B, d) → (B, d): what the tissue may add to a subspace's embedding.

    Both subspaces read the same tokens. Wide, each would carry all that the tissue shows, and a line would find the
    other's factors in it; few dimensions are soon filled by what the subspace is for. It also keeps few patients from
    being learned by heart.

    Args:
        width: d.
        rank: Dimensions in between.
    """

    def __init__(self, width: int, rank: int):
        super().__init__(nn.Linear(width, rank, bias=False), nn.Linear(rank, width))
        # PyTorch's own start would leave a ninth of the variance, and the pool behind it learn as much slower.
        nn.init.normal_(self[0].weight, std=width**-0.5)
        nn.init.normal_(self[1].weight, std=2 * rank**-0.5)


def program_embedding(n_programs: int, width: int, rank: int) -> nn.Module:
    """Program scores (B, P) → their part of an embedding (B, d); without programs, the tissue (B, d) by a `Narrow`."""
    return nn.Linear(n_programs, width, bias=False) if n_programs else Narrow(width, rank)


class _Fork(torch.autograd.Function):
    """Identity with two outlets. After backward only the sum of the two gradients is left, so a rule must act here."""

    @staticmethod
    def forward(ctx, tokens: Tensor, rule: GradientRule | None) -> tuple[Tensor, Tensor]:
        ctx.rule = rule
        return tokens.view_as(tokens), tokens.view_as(tokens)

    @staticmethod
    def backward(ctx, grad_tumor: Tensor, grad_tme: Tensor) -> tuple[Tensor, None]:
        if ctx.rule is not None:
            grad_tumor, grad_tme = ctx.rule(grad_tumor, grad_tme)
        return grad_tumor + grad_tme, None


def fork(tokens: Tensor, rule: GradientRule | None) -> tuple[Tensor, Tensor]:
    """Hand the same tokens (B, N, d) to both subspaces; on the way back `rule` sees both gradients before the sum."""
    if rule is None:
        return tokens, tokens
    return _Fork.apply(tokens, rule)
