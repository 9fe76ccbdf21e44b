"""Gated attention pools over masked tokens.

This is the only place of the package where the gate is written. Every network with a gated attention, the baselines
included, uses `GatedPool`, or `gated_attention` if it computes value and gate by layers of another form.
"""

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


def gated_attention(
    value: Tensor, gate: Tensor, score: nn.Linear, mask: Tensor, log_prior: Tensor | None = None
) -> Tensor:
    """Compute the attention softmax_n( w · (tanh(value_n) ⊙ σ(gate_n)) + log_prior_n ) over the real tokens.

    Args:
        value: (B, N, att_dim); its values may be overwritten if gradients are disabled.
        gate: (B, N, att_dim); its values may be overwritten, too.
        score: Layer from att_dim to 1 with the weight w.
        mask: (B, N) bool.
        log_prior: (B, N) log weights that are added to the scores; None = equal weights.

    Returns:
        (B, N) float32; 0 at masked tokens and for a bag without tokens.

    Source: Ilse et al. 2018, eq. 9.
    """
    scores = score(gated(value, gate)).squeeze(-1)
    return masked_softmax(scores if log_prior is None else scores + log_prior, mask)


class GatedPool(nn.Module):
    """Gated attention pool whose gate can depend on a condition.

    a = softmax_n( w · (tanh(V h_n) ⊙ σ(U h_n + Z c)) ), pooled = Σ a_n h_n.

    Args:
        width: Width d of the tokens.
        att_dim: Width of the gate, the number of rows of V and U.
        conditioned: Whether the gate depends on a condition c (B, d).
        score_bias: Whether the score has a bias. The softmax cancels it, so it changes nothing but the random numbers
            that are drawn for later layers.

    Shape:
        tokens (B, N, d), mask (B, N), condition (B, d), log_prior (B, N) → pooled (B, d), attention (B, N). A bag
        without tokens gives zeros. The log prior of a token is added to its score.

    Source: Ilse et al. 2018, eq. 9, with the condition added to the gate.
    """

    def __init__(self, width: int, att_dim: int = 64, conditioned: bool = False, score_bias: bool = False):
        super().__init__()
        self.value_and_gate = nn.Linear(width, 2 * att_dim)  # V and U in one product, which is faster than two
        self.score = nn.Linear(att_dim, 1, bias=score_bias)
        self.condition_to_gate = nn.Linear(width, att_dim, bias=False) if conditioned else None

    def forward(
        self, tokens: Tensor, mask: Tensor, condition: Tensor | None = None, log_prior: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Pool the real tokens."""
        value, gate = self.value_and_gate(tokens).chunk(2, dim=-1)  # (B, N, att_dim) each
        if self.condition_to_gate is not None:
            gate = gate + self.condition_to_gate(condition).unsqueeze(1)
        attention = gated_attention(value, gate, self.score, mask, log_prior)
        return (attention.to(tokens.dtype).unsqueeze(1) @ tokens).squeeze(1), attention
