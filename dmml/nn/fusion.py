"""Fusion of one subspace at one magnification: tissue tokens are pooled, conditioned on the subspace's expression.

Every fusion is constructed as `Fusion(width)` and called as `fusion(tokens, bag, condition)`. A config can name any
other class with this interface by its class path.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from dmml.nn.pooling import GatedPool, gated_attention
from dmml.nn.raster import rasterise, sample, slide_frame
from dmml.types import Bag


class Fusion(nn.Module):
    """Interface of a fusion.

    Args:
        width: Width d of tokens, condition and embedding.
    """

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def forward(self, tokens: Tensor, bag: Bag, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Embed the tissue of a bag.

        Args:
            tokens: (B, N, d) projected tokens of the bag, N ≥ 1.
            bag: Mask, positions and slides of the tokens.
            condition: (B, d) expression embedding of the subspace.

        Returns:
            Embedding (B, d), which is 0 for an empty bag, and attention (B, N), which sums to 1 over real tokens.
            Neither depends on padding, on the order of tokens or on the other patients of the batch.
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

    def forward(self, tokens: Tensor, bag: Bag, condition: Tensor) -> tuple[Tensor, Tensor]:
        """See `Fusion.forward`."""
        return self.pool(tokens, bag.mask, condition)


class _Anchors(NamedTuple):
    """Points of each slide to which its tokens attend: the M moved anchors, and last the mean of the slide."""

    keys: Tensor
    """(B, S, M + 1, d) normalised mean of the tissue around each point"""
    position: Tensor
    """(B, S, M + 1, 2) in [−1, 1] within the slide, as x, y"""
    has_tissue: Tensor
    """(B, S, M + 1) bool, whether there is tissue around the point"""


class DeformableFusion(Fusion):
    """Deformable cross-attention at true slide coordinates, followed by a gated pool; linear in the number of tokens.

    1. All tokens of a slide are averaged on a raster (`rasterise`), so that every token contributes.
    2. Anchors lie on a grid. Each is moved by an offset, computed from the tissue around it and the condition c.
    3. Keys and values are the tissue around the moved anchors; an anchor over empty glass is masked. The mean of the
       slide is one more key, which is always available.
    4. The query of each token is q = W_q h + W_c c, so queries differ between positions. The condition, the position
       (an inner product of learned Fourier features), the slide and the mask of empty anchors enter the logits as
       further coordinates of q and k; no tokens × anchors tensor is built outside of `scaled_dot_product_attention`.
    5. The attended value t of a token enters its gate and is pooled with the token:
       a = softmax_n( w · (tanh(V h + V' t) ⊙ σ(U h + U' t + Z c)) ), z = Σ a_n h_n + W_o Σ a_n t_n.
       By linearity this pools h + W_o t, but without a product for every token.

    Departs from the released code, whose queries are one gene vector repeated at every position, whose anchors come
    from a square of list positions, and which reads 19 % of the tokens.

    Args:
        width: Width d of the tokens.
        inner: Width of queries, keys and values; a multiple of `heads`.
        heads: Number of attention heads.
        cells: Cells along each side of the raster.
        anchors: Anchors along each side of their grid.
        reach: Largest offset, in anchor spacings.
        frequencies: Number of learned frequencies in the Fourier features of the position.
        att_dim: Width of the gate.

    Source: Xia et al. 2022 (deformable attention); contribution 1 of the paper.
    """

    _MASKED: ClassVar[float] = 1e4
    """Subtracted from the logit of a masked key; exp(−1e4) is 0 in float32"""

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
        if inner % heads:
            raise ValueError(f"inner must be a multiple of heads; got inner={inner}, heads={heads}")
        self.inner, self.heads, self.cells, self.max_offset = inner, heads, cells, 2 * reach / anchors
        steps = (torch.arange(anchors) + 0.5) / anchors * 2 - 1
        grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).view(-1, 2)
        self.grid: Tensor
        self.register_buffer("grid", grid, persistent=False)  # (M, 2) as x, y
        self.to_query_and_gate = nn.Linear(width, inner + 2 * att_dim)  # one product over the tokens
        self.anchor_query = nn.Linear(width, inner, bias=False)
        self.condition_to_gate = nn.Linear(width, att_dim, bias=False)
        self.norm, self.to_key_and_value = nn.LayerNorm(width), nn.Linear(width, 2 * inner)
        hidden, offset = nn.Linear(2 * width, 32), nn.Linear(32, 2)
        self.offset = nn.Sequential(hidden, nn.GELU(), offset)
        nn.init.normal_(offset.weight, std=0.01)
        nn.init.zeros_(offset.bias)
        self.frequency = nn.Parameter(torch.randn(2, frequencies) * 2)
        self.log_locality = nn.Parameter(torch.zeros(heads))
        self.attended_to_gate = nn.Linear(inner, 2 * att_dim, bias=False)
        self.score = nn.Linear(att_dim, 1, bias=False)
        self.out = nn.Linear(inner, width)

    def forward(self, tokens: Tensor, bag: Bag, condition: Tensor) -> tuple[Tensor, Tensor]:
        """See `Fusion.forward`."""
        slide, n_slides = bag.slide.masked_fill(~bag.mask, 0), bag.count_slides()
        position = slide_frame(bag.position, bag.mask, slide, n_slides)
        query, value_and_gate = self.to_query_and_gate(tokens).split([self.inner, 2 * self.score.in_features], -1)
        anchors = self._anchors(tokens, position, bag.mask, slide, condition, n_slides)
        attended = self._attend(query, position, slide, condition, anchors)  # (B, N, inner)
        value, gate = self.attended_to_gate(attended).add_(value_and_gate).chunk(2, -1)
        gate = gate + self.condition_to_gate(condition).unsqueeze(1)
        attention = gated_attention(value, gate, self.score, bag.mask)
        weight = attention.to(tokens.dtype).unsqueeze(1)  # (B, 1, N)
        pooled_attended = (weight.to(attended.dtype) @ attended).squeeze(1)
        has_tokens = bag.mask.any(1, keepdim=True)
        return (weight @ tokens).squeeze(1) + self.out(pooled_attended) * has_tokens, attention

    def _anchors(
        self, tokens: Tensor, position: Tensor, mask: Tensor, slide: Tensor, condition: Tensor, n_slides: int
    ) -> _Anchors:
        """Move the anchors, average the tissue around them, and append the mean of each slide."""
        batch, n_anchors = len(tokens), len(self.grid)
        sums, counts = rasterise(tokens, position, mask, slide, n_slides, self.cells)
        grid = self.grid.expand(batch * n_slides, -1, -1)
        around_grid, _ = sample(sums, counts, grid)  # (B·S, M, d)
        condition = condition.repeat_interleave(n_slides, 0).unsqueeze(1).expand(-1, n_anchors, -1)
        offset = self.offset(torch.cat([around_grid, condition.to(around_grid.dtype)], -1)).tanh()
        moved = grid + self.max_offset * offset
        around, has_tissue = sample(sums, counts, moved)
        total = counts.sum((2, 3))  # (B·S, 1)
        mean = sums.sum((2, 3)) / total.clamp_min(1)
        around = torch.cat([around, mean.unsqueeze(1)], 1)
        moved = torch.cat([moved, moved.new_zeros(len(moved), 1, 2)], 1)
        has_tissue = torch.cat([has_tissue, total > 0], 1)
        shape = (batch, n_slides, n_anchors + 1)
        return _Anchors(self.norm(around).view(*shape, -1), moved.view(*shape, 2), has_tissue.view(shape))

    def _attend(self, query: Tensor, position: Tensor, slide: Tensor, condition: Tensor, anchors: _Anchors) -> Tensor:
        """Let every token attend to the anchors of its slide.

        Args:
            query: (B, N, inner).
            position: (B, N, 2) in [−1, 1] within the slide.
            slide: (B, N) index of the slide.
            condition: (B, d).
            anchors: The anchors of all slides.

        Returns:
            (B, N, inner).
        """
        _, n_slides, m = anchors.has_tissue.shape
        key, value = self.to_key_and_value(anchors.keys.flatten(1, 2)).chunk(2, -1)
        query, key, value = self._split_heads(query), self._split_heads(key), self._split_heads(value)
        scale = math.sqrt(key.shape[-1])  # q, k and v are (B, H, N or S·M, d_h)
        condition_query = self._split_heads(self.anchor_query(condition).unsqueeze(1))
        condition_logit = (key @ condition_query.transpose(2, 3)) / scale  # (B, H, S·M, 1)

        # Everything beyond q·k is appended to q and k as further coordinates. First the position, per head:
        locality = self.log_locality.exp().view(-1, 1, 1)
        key_position = locality * self._fourier_features(anchors.position.flatten(1, 2)).unsqueeze(1)  # (B, H, S·M, 2F)
        # Then slide and mask: −_MASKED at anchors of another slide or over glass, otherwise the condition's logit.
        slide_of_key = torch.eye(n_slides, device=slide.device, dtype=query.dtype).repeat_interleave(m, 0)  # (S·M, S)
        visible = (slide_of_key * anchors.has_tissue.flatten(1).unsqueeze(-1)).unsqueeze(1)  # (B, 1, S·M, S)
        key_slide = condition_logit * visible + self._MASKED * (visible - 1)
        key = torch.cat([key / scale, key_position.to(key.dtype), key_slide], -1)
        query_slide = nn.functional.one_hot(slide, n_slides).to(query.dtype)  # (B, N, S)
        query_extra = torch.cat([self._fourier_features(position).to(query.dtype), query_slide], -1)
        query = torch.cat([query, query_extra.unsqueeze(1).expand(-1, self.heads, -1, -1)], -1)
        # Values are padded to the width of the keys, as kernels that build no tokens × anchors tensor require.
        padded = nn.functional.pad(value, (0, query.shape[-1] - value.shape[-1]))
        attended = nn.functional.scaled_dot_product_attention(query, key, padded, scale=1.0)[..., : value.shape[-1]]
        return attended.transpose(1, 2).flatten(2)

    def _split_heads(self, x: Tensor) -> Tensor:
        """Split the last axis by head. (B, N, inner) → (B, H, N, d_h)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _fourier_features(self, position: Tensor) -> Tensor:
        """Features whose inner product depends only on the difference of two positions. (B, N, 2) → (B, N, 2F)."""
        angle = position.to(self.frequency.dtype) @ self.frequency
        return torch.cat([angle.cos(), angle.sin()], -1) / math.sqrt(self.frequency.shape[1])
