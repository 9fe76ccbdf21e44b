"""Fusion of one subspace at one magnification: tissue tokens are pooled, conditioned on the subspace's expression.

Every fusion is constructed as `Fusion(width)` and called as `fusion(tokens, bag, condition)`. A config can name any
other class with this interface by its class path.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from dmml.functional.activation import gated
from dmml.nn.pooling import GatedPool, masked_softmax
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
        hidden: Width of the gate.
    """

    def __init__(self, width: int, hidden: int = 64):
        super().__init__(width)
        self.pool = GatedPool(width, hidden, conditioned=True)

    def forward(self, tokens: Tensor, bag: Bag, condition: Tensor) -> tuple[Tensor, Tensor]:
        """See `Fusion.forward`."""
        return self.pool(tokens, bag.mask, condition)


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
        hidden: Width of the gate.

    Source: Xia et al. 2022 (deformable attention); contribution 1 of the paper.
    """

    _OUT: ClassVar[float] = 1e4  # subtracted from the logit of a masked key; exp(-1e4) is 0 in float32

    def __init__(
        self,
        width: int,
        inner: int = 32,
        heads: int = 2,
        cells: int = 12,
        anchors: int = 6,
        reach: float = 1.0,
        frequencies: int = 4,
        hidden: int = 64,
    ):
        super().__init__(width)
        if inner % heads:
            raise ValueError(f"inner must be a multiple of heads; got inner={inner}, heads={heads}")
        self.inner, self.heads, self.cells, self.reach = inner, heads, cells, 2 * reach / anchors
        steps = (torch.arange(anchors) + 0.5) / anchors * 2 - 1
        grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).view(-1, 2)
        self.register_buffer("grid", grid, persistent=False)  # (M, 2) as x, y
        self.read = nn.Linear(width, inner + 2 * hidden)  # query and gate in one product over the tokens
        self.ask, self.condition = nn.Linear(width, inner, bias=False), nn.Linear(width, hidden, bias=False)
        self.norm, self.key_value = nn.LayerNorm(width), nn.Linear(width, 2 * inner)
        self.offset = nn.Sequential(nn.Linear(2 * width, 32), nn.GELU(), nn.Linear(32, 2))
        nn.init.normal_(self.offset[-1].weight, std=0.01)
        nn.init.zeros_(self.offset[-1].bias)
        self.frequency = nn.Parameter(torch.randn(2, frequencies) * 2)
        self.locality = nn.Parameter(torch.zeros(heads))
        self.look = nn.Linear(inner, 2 * hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.out = nn.Linear(inner, width)

    def forward(self, tokens: Tensor, bag: Bag, condition: Tensor) -> tuple[Tensor, Tensor]:
        """See `Fusion.forward`."""
        slide, n_slides = bag.slide.masked_fill(~bag.mask, 0), bag.count_slides()
        place = slide_frame(bag.position, bag.mask, slide, n_slides)
        query, gate = self.read(tokens).split([self.inner, 2 * self.score.in_features], -1)
        keys, where, there = self._anchors(tokens, place, bag.mask, slide, condition, n_slides)
        told = self._attend(query, place, slide, condition, keys, where, there)  # (B, N, inner)
        value, gate = self.look(told).add_(gate).chunk(2, -1)
        gate = gate + self.condition(condition).unsqueeze(1)
        attention = masked_softmax(self.score(gated(value, gate)).squeeze(-1), bag.mask)
        share = attention.to(tokens.dtype).unsqueeze(1)  # (B, 1, N)
        there = bag.mask.any(1, keepdim=True)
        embedding = (share @ tokens).squeeze(1) + self.out((share.to(told.dtype) @ told).squeeze(1)) * there
        return embedding, attention

    def _anchors(
        self, tokens: Tensor, place: Tensor, mask: Tensor, slide: Tensor, condition: Tensor, n_slides: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Read the tissue around the moved anchors and, as the last key of each slide, the slide's mean.

        Returns:
            Keys (B, S, M + 1, d), their positions (B, S, M + 1, 2), and whether they have tissue (B, S, M + 1) bool.
        """
        batch, m = len(tokens), len(self.grid)
        sums, counts = rasterise(tokens, place, mask, slide, n_slides, self.cells)
        rest = self.grid.expand(batch * n_slides, -1, -1)
        seen, _ = sample(sums, counts, rest)  # (B·S, M, d)
        asked = condition.repeat_interleave(n_slides, 0).unsqueeze(1).expand(-1, m, -1)
        where = rest + self.reach * self.offset(torch.cat([seen, asked.to(seen.dtype)], -1)).tanh()
        around, there = sample(sums, counts, where)
        total = counts.sum((2, 3))  # (B·S, 1)
        mean = sums.sum((2, 3)) / total.clamp_min(1)
        around = torch.cat([around, mean.unsqueeze(1)], 1)
        where = torch.cat([where, where.new_zeros(len(where), 1, 2)], 1)
        there = torch.cat([there, total > 0], 1)
        split = (batch, n_slides, m + 1)
        return self.norm(around).view(*split, -1), where.view(*split, 2), there.view(split)

    def _attend(
        self,
        query: Tensor,
        place: Tensor,
        slide: Tensor,
        condition: Tensor,
        keys: Tensor,
        where: Tensor,
        there: Tensor,
    ) -> Tensor:
        """Let every token attend to the anchors of its slide. (B, N, inner), … → (B, N, inner)."""
        _, n_slides, m = there.shape
        key, value = self.key_value(keys.flatten(1, 2)).chunk(2, -1)
        query, key, value = self._split(query), self._split(key), self._split(value)  # (B, H, N or S·M, d_h)
        asked = (key @ self._split(self.ask(condition).unsqueeze(1)).transpose(2, 3)) / math.sqrt(key.shape[-1])

        # Everything beyond q·k is appended to q and k as further coordinates. First the position, per head:
        near = self.locality.exp().view(-1, 1, 1)
        nearby = near * self._waves(where.flatten(1, 2)).unsqueeze(1)  # (B, H, S·M, 2F)
        # Then slide and mask: -_OUT at anchors of another slide or over glass, otherwise the condition's logit.
        of = torch.eye(n_slides, device=slide.device, dtype=query.dtype).repeat_interleave(m, 0)  # (S·M, S)
        seen = (of * there.flatten(1).unsqueeze(-1)).unsqueeze(1)  # (B, 1, S·M, S)
        told = asked * seen + self._OUT * (seen - 1)
        key = torch.cat([key / math.sqrt(key.shape[-1]), nearby.to(key.dtype), told], -1)
        own = nn.functional.one_hot(slide, n_slides).to(query.dtype)  # (B, N, S)
        extra = torch.cat([self._waves(place).to(query.dtype), own], -1)
        query = torch.cat([query, extra.unsqueeze(1).expand(-1, self.heads, -1, -1)], -1)
        # Values are padded to the width of the keys, as kernels that build no tokens × anchors tensor require.
        wide = nn.functional.pad(value, (0, query.shape[-1] - value.shape[-1]))
        attended = nn.functional.scaled_dot_product_attention(query, key, wide, scale=1.0)[..., : value.shape[-1]]
        return attended.transpose(1, 2).flatten(2)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _waves(self, place: Tensor) -> Tensor:
        """Fourier features whose inner product depends only on the difference of two positions. → (B, N, 2F)."""
        angle = place.to(self.frequency.dtype) @ self.frequency
        return torch.cat([angle.cos(), angle.sin()], -1) / math.sqrt(self.frequency.shape[1])
