"""Output heads: class or hazard logits from both subspaces, and expression programs from tissue alone."""

from __future__ import annotations

from torch import Tensor, nn

from dmml.nn.pooling import GatedPool
from dmml.types import SUBSPACES


class SubspaceHead(nn.Module):
    """Linear head over both subspaces: logits = W_t z_t + W_e z_e + b.

    The logits of each subspace include b / 2, so that those of the two subspaces add up to the total.

    Args:
        width: Width d of an embedding.
        n_outputs: Number of outputs C.
        dropout: Share of an embedding's entries that are dropped in training, which prevents overconfidence when there
            are few patients.
    """

    def __init__(self, width: int, n_outputs: int, dropout: float = 0.0):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(2 * width, n_outputs)
        self.columns = {s: slice(i * width, (i + 1) * width) for i, s in enumerate(SUBSPACES)}

    def forward(self, embeddings: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the logits of each subspace. {subspace: (B, d)} → {subspace: (B, C)}."""
        weight, bias = self.linear.weight, self.linear.bias / 2
        return {
            s: nn.functional.linear(self.dropout(embeddings[s]), weight[:, self.columns[s]], bias) for s in SUBSPACES
        }


class ProgramHead(nn.Module):
    """Predict a subspace's expression programs from the tissue of one magnification: a small pool and a linear layer.

    Args:
        width: Width d of the tokens.
        n_programs: Number of programs P; may be 0.

    Shape:
        tokens (B, N, d), mask (B, N) → (B, P); 0, the training mean, for a bag without tokens.
    """

    def __init__(self, width: int, n_programs: int):
        super().__init__()
        self.pool = GatedPool(width, att_dim=16) if n_programs else None
        self.linear = nn.Linear(width, n_programs) if n_programs else None

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Predict the program scores."""
        if self.pool is None or self.linear is None:
            return tokens.new_zeros(len(tokens), 0)
        pooled, _ = self.pool(tokens, mask)
        return self.linear(pooled) * mask.any(1, keepdim=True)
