"""Heads: class or hazard logits from both subspaces, and expression programs from tissue alone."""

from __future__ import annotations

from torch import Tensor, nn

from dmml.nn.pooling import GatedPool
from dmml.types import SUBSPACES


class SubspaceHead(nn.Module):
    """logits = W_t z_t + W_e z_e + b; a subspace's own logits take b / 2, so that the two sum to the whole.

    Args:
        width: d of an embedding.
        n_outputs: C.
        dropout: Share of an embedding's entries dropped in training; it keeps few patients from making it sure of itself.
    """

    def __init__(self, width: int, n_outputs: int, dropout: float = 0.0):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(2 * width, n_outputs)
        self.columns = {s: slice(i * width, (i + 1) * width) for i, s in enumerate(SUBSPACES)}

    def forward(self, embeddings: dict[str, Tensor]) -> dict[str, Tensor]:
        """{subspace: (B, d)} → {subspace: (B, C)}."""
        weight, bias = self.linear.weight, self.linear.bias / 2
        return {
            s: nn.functional.linear(self.dropout(embeddings[s]), weight[:, self.columns[s]], bias) for s in SUBSPACES
        }


class ProgramHead(nn.Module):
    """Expression programs of one subspace, predicted from the tissue of one magnification: a light pool and a line.

    Args:
        width: d of the tokens.
        n_programs: P; 0 is legal.

    Shape:
        tokens (B, N, d), mask (B, N) → (B, P); 0, the training mean, for a bag without tokens.
    """

    def __init__(self, width: int, n_programs: int):
        super().__init__()
        self.pool = GatedPool(width, hidden=16) if n_programs else None
        self.linear = nn.Linear(width, n_programs) if n_programs else None

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Predict the scores."""
        if self.pool is None or self.linear is None:
            return tokens.new_zeros(len(tokens), 0)
        pooled, _ = self.pool(tokens, mask)
        return self.linear(pooled) * mask.any(1, keepdim=True)
