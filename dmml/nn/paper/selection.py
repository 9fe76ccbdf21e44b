"""The gene selection layer of the paper."""

from __future__ import annotations

from torch import Tensor, nn


class GeneSelection(nn.Module):
    """Multi-head attention by which the fused tissue selects among the gene tokens of its subspace.

    With the output Z_M of the subspace's fusion and its gene tokens X_G,
    Q = Z_M W_Q, K = X_G W_K, V = X_G W_V, Z_O = concat_I( softmax(Q_I K_Iᵀ / √d_h) V_I ) W_O.
    There is no residual connection, so that what goes on consists of selected values of the genes; the tissue decides
    the selection alone. With one gene token there is nothing to select: the softmax over one key is 1, and the output
    is a function of the genes alone, whatever the slide.

    Args:
        width: Width d of both inputs and of the output, a multiple of `heads`.
        heads: Number of attention heads.

    Shape:
        fused (B, T, d), genes (B, T', d) → (B, T, d).

    Source: eqs 4 and 5 of the paper. Departs from the released code, whose query is one map that joins both subspaces,
    whose key and value are one single gene token, and which adds a residual connection.
    """

    def __init__(self, width: int, heads: int = 8):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, fused: Tensor, genes: Tensor) -> Tensor:
        """Select among the gene tokens."""
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, T, d_h)
            for layer, x in ((self.query, fused), (self.key, genes), (self.value, genes))
        )
        selected = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.out(selected.transpose(1, 2).flatten(2))
