"""Attention pools over masked tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dmml.functional.activation import gated


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the real tokens of the last axis; 0 at masked tokens and where a row has no real token.

    Args:
        scores: (…, N).
        mask: (…, N) bool.

    Returns:
        (…, N) float32.
    """
    scores = scores.float().masked_fill(~mask, float("-inf"))
    top = scores.detach().amax(-1, keepdim=True) if scores.shape[-1] else scores.new_zeros(*scores.shape[:-1], 1)
    weight = (scores - top.masked_fill(top.isinf(), 0)).exp()
    return weight / weight.sum(-1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)


class GatedPool(nn.Module):
    """Gated attention pool whose gate can depend on a condition.

    a = softmax_n( w · (tanh(V h_n) ⊙ σ(U h_n + Z c)) ), pooled = Σ a_n h_n.

    Args:
        width: Width d of the tokens and of the condition.
        hidden: Width of the gate.
        conditioned: Whether the gate depends on a condition c (B, d).

    Shape:
        tokens (B, N, d), mask (B, N), condition (B, d), prior (B, N) → pooled (B, d), attention (B, N). A bag without
        tokens gives zeros. The prior of a token is a log weight that is added to its score.

    Source: Ilse et al. 2018, eq. 9, with the condition added to the gate.
    """

    def __init__(self, width: int, hidden: int = 64, conditioned: bool = False):
        super().__init__()
        self.gate = nn.Linear(width, 2 * hidden)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.condition = nn.Linear(width, hidden, bias=False) if conditioned else None

    def forward(
        self, tokens: Tensor, mask: Tensor, condition: Tensor | None = None, prior: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Pool the real tokens."""
        value, gate = self.gate(tokens).chunk(2, dim=-1)  # (B, N, hidden) each
        if self.condition is not None:
            gate = gate + self.condition(condition).unsqueeze(1)
        scores = self.score(gated(value, gate)).squeeze(-1)  # (B, N)
        attention = masked_softmax(scores if prior is None else scores + prior, mask)
        return (attention.to(tokens.dtype).unsqueeze(1) @ tokens).squeeze(1), attention
