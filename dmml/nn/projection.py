"""From encoder features to tokens, read by both subspaces, and the fork where their two gradients meet."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dmml.types import GradientRule


class TokenProjection(nn.Module):
    """Features → tokens: one line, a norm and a bend. The expensive product of a magnification, done once.

    Args:
        n_features: D of the encoder.
        width: d of the tokens.
        dropout: Share of a token's entries dropped in training.

    Shape:
        features (B, N, D), mask (B, N) → (B, N, d), 0 at masked tokens.
    """

    def __init__(self, n_features: int, width: int, dropout: float = 0.1):
        super().__init__()
        self.linear = nn.Linear(n_features, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Project."""
        features = features.to(self.linear.weight.dtype)
        # A NaN in padding would reach the weight's gradient as 0 · NaN.
        if torch.is_grad_enabled() and not bool(mask.all()):
            features = features.masked_fill(~mask.unsqueeze(-1), 0)
        tokens = self.dropout(nn.functional.gelu(self.norm(self.linear(features))))
        return torch.where(mask.unsqueeze(-1), tokens, 0.0)


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
