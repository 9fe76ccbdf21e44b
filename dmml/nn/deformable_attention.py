"""Deformable attention of tissue tokens to movable anchors at true slide coordinates, linear in the number of tokens."""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from dmml.functional.padding import clear_padding
from dmml.nn.pooling import masked_softmax
from dmml.nn.raster import rasterise, sample, slide_frame
from dmml.types import Bag


class Attended(NamedTuple):
    """What the tokens of a bag read from the anchors of their slides."""

    values: Tensor
    """(B, N, width of the values)"""
    condition_attention: Tensor | None
    """(B, heads · (M + 1)) attention of the condition to the anchors; None without a condition"""


class _Anchors(NamedTuple):
    """Points of each slide to which its tokens attend: the M moved anchors, and last the mean of the slide."""

    keys: Tensor
    """(B, S, M + 1, d) normalised mean of the tissue around each point"""
    position: Tensor
    """(B, S, M + 1, 2) in [−1, 1] within the slide, as x, y"""
    has_tissue: Tensor
    """(B, S, M + 1) bool, whether there is tissue around the point"""
    n_tokens: Tensor
    """(B, S) number of tokens of each slide"""


class AnchorAttention(nn.Module):
    """Base of modules whose tokens attend to anchors.

    A subclass makes the queries of the tokens and the layer `anchor_query`, and calls `_build_anchors`.

    1. All tokens of a slide are averaged on a raster (`rasterise`), so that every token contributes.
    2. Anchors lie on a grid. Each is moved by an offset, computed from the tissue around it and, if there is one, the
       condition c.
    3. Keys and values are the tissue around the moved anchors; an anchor over empty glass is masked. The mean of the
       slide is one more key, which is always available.
    4. The query of each token is q = W_q h + W_c c, so queries differ between positions. The condition, the position
       (an inner product of learned Fourier features), the slide and the mask of empty anchors enter the logits as
       further coordinates of q and k; no tokens × anchors tensor is built outside of `scaled_dot_product_attention`.

    Source: Xia et al. 2022 (deformable attention); the deformation layer of the paper (eqs. 1–3, and 8–9 without a
    condition). Departs from it in that offsets depend on the tissue in both cases, and that offsets are learned at true
    slide coordinates.
    """

    anchor_query: nn.Linear | None
    """Layer from the condition to a query that is added to those of all tokens; None without a condition"""
    _MASKED: ClassVar[float] = 1e4
    """Subtracted from the logit of a masked key; exp(−1e4) is 0 in float32"""

    def _build_anchors(
        self,
        width: int,
        inner: int,
        heads: int,
        cells: int,
        anchors: int,
        reach: float,
        frequencies: int,
        conditioned: bool,
    ) -> None:
        """Build the layers that make keys and values; arguments as in `DeformableAttention`."""
        self.inner, self.heads, self.cells, self.max_offset = inner, heads, cells, 2 * reach / anchors
        steps = (torch.arange(anchors) + 0.5) / anchors * 2 - 1
        grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).view(-1, 2)
        self.grid: Tensor
        self.register_buffer("grid", grid, persistent=False)  # (M, 2) as x, y
        self.norm, self.to_key_and_value = nn.LayerNorm(width), nn.Linear(width, 2 * inner)
        hidden, offset = nn.Linear(2 * width if conditioned else width, 32), nn.Linear(32, 2)
        self.offset = nn.Sequential(hidden, nn.GELU(), offset)
        nn.init.normal_(offset.weight, std=0.01)
        nn.init.zeros_(offset.bias)
        self.frequency = nn.Parameter(torch.randn(2, frequencies) * 2)
        self.log_locality = nn.Parameter(torch.zeros(heads))

    def attend(self, query: Tensor, tokens: Tensor, bag: Bag, condition: Tensor | None = None) -> Attended:
        """Let every token attend to the anchors of its slide.

        Args:
            query: (B, N, inner) of the tokens.
            tokens: (B, N, d), from which keys and values are made.
            bag: Mask, positions and slides of the tokens.
            condition: (B, d), on which offsets and queries depend; None if the module was built without one.

        Returns:
            The attended values (B, N, inner), and the attention of the condition to the anchors (B, heads · (M + 1)):
            per head and slide a softmax over the anchors with tissue, averaged over a patient's slides by their numbers
            of tokens. It sums to the number of heads, and is 0 for a patient without tokens.
        """
        slide, n_slides = bag.slide.masked_fill(~bag.mask, 0), bag.count_slides()
        position = slide_frame(bag.position, bag.mask, slide, n_slides)
        anchors = self._anchors(tokens, position, bag.mask, slide, condition, n_slides)
        key, value = self.to_key_and_value(anchors.keys.flatten(1, 2)).chunk(2, -1)
        key, value = self._split_heads(key), self._split_heads(value)  # (B, H, S·M, d_h)
        condition_logit = attention = None
        if self.anchor_query is not None:
            condition_query = self._split_heads(self.anchor_query(condition).unsqueeze(1))
            condition_logit = (key @ condition_query.transpose(2, 3)) / math.sqrt(key.shape[-1])  # (B, H, S·M, 1)
            attention = _average_over_slides(condition_logit, anchors)
        return Attended(self._attend(query, key, value, position, slide, condition_logit, anchors), attention)

    def _anchors(
        self, tokens: Tensor, position: Tensor, mask: Tensor, slide: Tensor, condition: Tensor | None, n_slides: int
    ) -> _Anchors:
        """Move the anchors, average the tissue around them, and append the mean of each slide."""
        batch, n_anchors = len(tokens), len(self.grid)
        sums, counts = rasterise(tokens, position, mask, slide, n_slides, self.cells)
        grid = self.grid.expand(batch * n_slides, -1, -1)
        around_grid, _ = sample(sums, counts, grid)  # (B·S, M, d)
        if condition is not None:
            condition = condition.repeat_interleave(n_slides, 0).unsqueeze(1).expand(-1, n_anchors, -1)
            around_grid = torch.cat([around_grid, condition.to(around_grid.dtype)], -1)
        moved = grid + self.max_offset * self.offset(around_grid).tanh()
        around, has_tissue = sample(sums, counts, moved)
        total = counts.sum((2, 3))  # (B·S, 1)
        mean = sums.sum((2, 3)) / total.clamp_min(1)
        around = torch.cat([around, mean.unsqueeze(1)], 1)
        moved = torch.cat([moved, torch.zeros_like(moved[:, :1])], 1)
        has_tissue = torch.cat([has_tissue, total > 0], 1)
        shape = (batch, n_slides, n_anchors + 1)
        keys = self.norm(around).view(*shape, -1)
        return _Anchors(keys, moved.view(*shape, 2), has_tissue.view(shape), total.view(shape[:2]))

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        position: Tensor,
        slide: Tensor,
        condition_logit: Tensor | None,
        anchors: _Anchors,
    ) -> Tensor:
        """Let every token attend to the anchors of its slide.

        Args:
            query: (B, N, inner).
            key: (B, H, S·M, d_h).
            value: (B, H, S·M, d_h).
            position: (B, N, 2) in [−1, 1] within the slide.
            slide: (B, N) index of the slide.
            condition_logit: (B, H, S·M, 1), the condition's logit of each key; None without a condition.
            anchors: The anchors of all slides.

        Returns:
            (B, N, inner).
        """
        _, n_slides, m = anchors.has_tissue.shape
        query = self._split_heads(query)
        scale = math.sqrt(key.shape[-1])
        # Everything beyond q·k is appended to q and k as further coordinates. First the position, per head:
        locality = self.log_locality.exp().view(-1, 1, 1)
        key_position = locality * self._fourier_features(anchors.position.flatten(1, 2)).unsqueeze(1)  # (B, H, S·M, 2F)
        # Then slide and mask: −_MASKED at anchors of another slide or over glass, otherwise the condition's logit.
        slide_of_key = torch.eye(n_slides, device=slide.device, dtype=query.dtype).repeat_interleave(m, 0)  # (S·M, S)
        visible = (slide_of_key * anchors.has_tissue.flatten(1).unsqueeze(-1)).unsqueeze(1)  # (B, 1, S·M, S)
        key_slide = self._MASKED * (visible - 1)
        if condition_logit is None:
            key_slide = key_slide.expand(-1, self.heads, -1, -1)
        else:
            key_slide = condition_logit * visible + key_slide
        key = torch.cat([key / scale, key_position.to(key.dtype), key_slide], -1)
        # `one_hot` would fix the number of slides of an exported network.
        query_slide = (slide.unsqueeze(-1) == torch.arange(n_slides, device=slide.device)).to(query.dtype)  # (B, N, S)
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


class DeformableAttention(AnchorAttention):
    """Deformable attention of tissue tokens, with a condition (genes to tissue) or without (tissue to tissue).

    The attended values of all heads are joined by a linear layer W_O; a residual connection is left to the caller.

    Args:
        width: Width d of the tokens, of the condition and of the attended values.
        inner: Width of queries, keys and values; a multiple of `heads`.
        heads: Number of attention heads.
        cells: Cells along each side of the raster.
        anchors: Anchors along each side of their grid, so that there are M = anchors² of them.
        reach: Largest offset, in anchor spacings.
        frequencies: Number of learned frequencies in the Fourier features of the position.
        conditioned: Whether queries and offsets depend on a condition as well.

    Shape:
        tokens (B, N, d), bag, condition (B, d) → `Attended`, with values (B, N, d) that are 0 at masked tokens.

    Source: eqs. 8–9 of the paper (tissue to tissue); see `AnchorAttention`.
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
        conditioned: bool = False,
    ):
        super().__init__()
        check_heads(inner, heads)
        self.to_query = nn.Linear(width, inner)
        self.anchor_query = nn.Linear(width, inner, bias=False) if conditioned else None
        self._build_anchors(width, inner, heads, cells, anchors, reach, frequencies, conditioned)
        self.out = nn.Linear(inner, width)

    def forward(self, tokens: Tensor, bag: Bag, condition: Tensor | None = None) -> Attended:
        """Let every token attend to the anchors of its slide.

        Raises:
            ValueError: A condition is missing, or is given although the module was built without one.
        """
        if (condition is None) != (self.anchor_query is None):
            raise ValueError("a condition is needed if and only if the module was built with conditioned=True")
        attended = self.attend(self.to_query(tokens), tokens, bag, condition)
        return attended._replace(values=clear_padding(self.out(attended.values), bag.mask))


def check_heads(inner: int, heads: int) -> None:
    """Refuse a width that heads of equal width cannot share.

    Raises:
        ValueError: `inner` is not a multiple of `heads`.
    """
    if inner % heads:
        raise ValueError(f"inner must be a multiple of heads; got inner={inner}, heads={heads}")


def _average_over_slides(logit: Tensor, anchors: _Anchors) -> Tensor:
    """Softmax over the visible anchors of each slide, averaged over slides. (B, H, S·(M + 1), 1) → (B, H·(M + 1))."""
    logit = logit.squeeze(-1).unflatten(2, anchors.has_tissue.shape[1:])  # (B, H, S, M + 1)
    attention = masked_softmax(logit, anchors.has_tissue.unsqueeze(1))
    share = anchors.n_tokens / anchors.n_tokens.sum(1, keepdim=True).clamp_min(1)  # (B, S)
    return (attention * share[:, None, :, None]).sum(2).flatten(1)
