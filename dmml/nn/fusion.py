"""Fusion of one subspace at one magnification: tissue tokens are pooled, conditioned on the subspace's expression.

Every fusion is constructed as `Fusion(width)` and called as `fusion(tokens, bag, condition)`. A config can name any
other class with this interface by its class path.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from dmml.nn.deformable_attention import AnchorAttention, check_heads
from dmml.nn.pooling import GatedPool, gated_attention
from dmml.types import Bag


class FusionOutput(NamedTuple):
    """What a fusion makes of the tissue of a bag."""

    embedding: Tensor
    """(B, d), 0 for an empty bag unless it is the whole embedding of a subspace"""
    attention: Tensor
    """(B, N), sums to 1 over the real tokens of a patient; 0 for an empty bag"""
    gene_attention: Tensor | None = None
    """(B, D) attention of the genes to the tissue, flattened; D is the same at every magnification. None = the fusion
    has no such map"""


class Fusion(nn.Module):
    """Interface of a fusion.

    Args:
        width: Width d of tokens, condition and embedding.

    Attributes:
        reads_gene_tokens: Whether the condition may be several gene tokens (B, T, d) instead of one vector (B, d).
        is_whole_embedding: Whether the output is the subspace's whole embedding, to which the teacher adds nothing.
    """

    reads_gene_tokens: ClassVar[bool] = False
    is_whole_embedding: ClassVar[bool] = False

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def forward(self, tokens: Tensor, bag: Bag, condition: Tensor) -> FusionOutput:
        """Embed the tissue of a bag.

        Args:
            tokens: (B, N, d) projected tokens of the bag, N ≥ 1.
            bag: Mask, positions and slides of the tokens.
            condition: (B, d) expression embedding of the subspace, or gene tokens (B, T, d) if the class reads them.

        Returns:
            The `FusionOutput`; nothing in it depends on padding, on the order of tokens or on the other patients of the
            batch. A fusion of your own may return the plain pair of embedding and attention.
        """
        raise NotImplementedError


class GatedPoolFusion(Fusion):
    """Low-cost fusion: a gated attention pool whose gate depends on the expression.

    Args:
        width: Width d of the tokens.
        att_dim: Width of the gate.
    """

    def __init__(self, width: int, att_dim: int = 64):
        super().__init__(width)
        self.pool = GatedPool(width, att_dim, conditioned=True)

    def forward(self, tokens: Tensor, bag: Bag, condition: Tensor) -> FusionOutput:
        """See `Fusion.forward`."""
        return FusionOutput(*self.pool(tokens, bag.mask, condition))


class DeformableFusion(AnchorAttention, Fusion):
    """Deformable cross-attention at true slide coordinates, followed by a gated pool; linear in the number of tokens.

    Tokens attend to the anchors of their slide as `AnchorAttention` describes it, with the expression as the condition.
    The attended value t of a token then enters its gate and is pooled with the token:
    a = softmax_n( w · (tanh(V h + V' t) ⊙ σ(U h + U' t + Z c)) ), z = Σ a_n h_n + W_o Σ a_n t_n.
    By linearity this pools h + W_o t, but without a product for every token. The gene attention is that of the
    condition to the anchors.

    Departs from the released code, whose queries are one gene vector repeated at every position, whose anchors come
    from a square of list positions, and of whose tokens' values 19 % reach the output.

    Args:
        width: Width d of the tokens.
        inner: Width of queries, keys and values; a multiple of `heads`.
        heads: Number of attention heads.
        cells: Cells along each side of the raster.
        anchors: Anchors along each side of their grid.
        reach: Largest offset, in anchor spacings.
        frequencies: Number of learned frequencies in the Fourier features of the position.
        att_dim: Width of the gate.

    Source: Xia et al. 2022 (deformable attention); eqs 1 to 3 of the paper, in another form than `PaperFusion`.
    """

    def __init__(
        self,
        width: int,
        inner: int = 32,
        heads: int = 2,
        cells: int = 12,
        anchors: int = 6,
        reach: float = 1.0,
        frequencies: int = 4,
        att_dim: int = 64,
    ):
        super().__init__(width)
        check_heads(inner, heads)
        self.to_query_and_gate = nn.Linear(width, inner + 2 * att_dim)  # one product over the tokens
        self.anchor_query = nn.Linear(width, inner, bias=False)
        self.condition_to_gate = nn.Linear(width, att_dim, bias=False)
        self._build_anchors(width, inner, heads, cells, anchors, reach, frequencies, conditioned=True)
        self.attended_to_gate = nn.Linear(inner, 2 * att_dim, bias=False)
        self.score = nn.Linear(att_dim, 1, bias=False)
        self.out = nn.Linear(inner, width)

    def forward(self, tokens: Tensor, bag: Bag, condition: Tensor) -> FusionOutput:
        """See `Fusion.forward`."""
        query, value_and_gate = self.to_query_and_gate(tokens).split([self.inner, 2 * self.score.in_features], -1)
        attended, gene_attention = self.attend(query, tokens, bag, condition)
        value, gate = self.attended_to_gate(attended).add_(value_and_gate).chunk(2, -1)
        gate = gate + self.condition_to_gate(condition).unsqueeze(1)
        attention = gated_attention(value, gate, self.score, bag.mask)
        weight = attention.to(tokens.dtype).unsqueeze(1)  # (B, 1, N)
        pooled_attended = (weight.to(attended.dtype) @ attended).squeeze(1)
        has_tokens = bag.mask.any(1, keepdim=True)
        embedding = (weight @ tokens).squeeze(1) + self.out(pooled_attended) * has_tokens
        return FusionOutput(embedding, attention, gene_attention)
