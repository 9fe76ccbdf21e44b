"""Fusion of one subspace at one magnification: tissue tokens under the eye of the subspace's expression.

Every fusion is built by `Fusion(width)` and called as `fusion(tokens, bag, condition)`; a class of the user's own that
does the same goes into a config by its class path.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from dmml.nn.pooling import GatedPool
from dmml.nn.raster import rasterise, sample, slide_frame
from dmml.types import Bag


class Fusion(nn.Module):
    """Interface of a fusion.

    Args:
        width: d of tokens, condition and embedding.
    """

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def forward(self, tokens: Tensor, bag: Bag, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Embed the tissue of a bag.

        Args:
            tokens: (B, N, d) projected tokens of the bag, N ≥ 1.
            bag: Their mask, positions and slides.
            condition: (B, d) expression embedding of the subspace.

        Returns:
            Embedding (B, d), 0 where the bag is empty, and attention (B, N), which sums to 1 over real tokens.
            Padding, token order and batch mates change neither.
        """
        raise NotImplementedError


class GatedPoolFusion(Fusion):
    """The cheap fusion: a gated attention pool whose gate is moved by the expression.

    Args:
        width: d.
        hidden: Width of the gate.
    """

    def __init__(self, width: int, hidden: int = 64):
        super().__init__(width)
        self.pool = GatedPool(width, hidden, conditioned=True)

    def forward(self, tokens: Tensor, bag: Bag, condition: Tensor) -> tuple[Tensor, Tensor]:
        """See `Fusion.forward`."""
        return self.pool(tokens, bag.mask, condition)


class DeformableFusion(Fusion):
    """Deformable cross-attention at true slide coordinates, then a gated pool; linear in tokens.

    1. All tokens of a slide → a raster of means (`rasterise`), so that every token takes part.
    2. Anchors on a grid, each moved by an offset that is read from the raster at its place and from the condition.
    3. Keys and values are the tissue around the moved anchors; an anchor over empty glass is masked. One more key, the
       mean of the slide, is always there.
    4. Each token asks with q = W_q h + W_z c: position-dependent queries. The position enters the logits as an inner
       product of learned Fourier features; so do mask and slide, so no tokens × anchors tensor is built outside of
       `scaled_dot_product_attention`.
    5. h + W_o attended goes through a gated pool moved by the condition.

    Departs from the released code, whose queries are one gene vector repeated at every position, whose anchors come
    from a square of list positions, and which reads 19 % of the tokens.

    Args:
        width: d, a multiple of `heads`.
        heads: Attention heads.
        cells: Side of the raster.
        anchors: Side of the grid of anchors.
        reach: Largest offset, in anchor spacings.
        frequencies: Learned Fourier features of the position.

    Source: Xia et al. 2022 (deformable attention); contribution 1 of the paper.
    """

    _OUT: ClassVar[float] = 1e4  # logit of a key that must not be seen; exp(-1e4) is 0 in float32

    def __init__(
        self,
        width: int,
        heads: int = 4,
        cells: int = 12,
        anchors: int = 6,
        reach: float = 1.0,
        frequencies: int = 8,
    ):
        super().__init__(width)
        if width % heads:
            raise ValueError(f"width must be a multiple of heads; got width={width}, heads={heads}")
        self.heads, self.cells, self.reach = heads, cells, 2 * reach / anchors
        steps = (torch.arange(anchors) + 0.5) / anchors * 2 - 1
        grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).view(-1, 2)
        self.register_buffer("grid", grid, persistent=False)  # (M, 2) as x, y
        self.norm = nn.LayerNorm(width)
        self.query, self.ask = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width)
        self.offset = nn.Sequential(nn.Linear(2 * width, 32), nn.GELU(), nn.Linear(32, 2))
        nn.init.normal_(self.offset[-1].weight, std=0.01)
        nn.init.zeros_(self.offset[-1].bias)
        self.frequency = nn.Parameter(torch.randn(2, frequencies) * 2)
        self.locality = nn.Parameter(torch.zeros(heads))
        self.out = nn.Linear(width, width)
        self.pool = GatedPool(width, conditioned=True)

    def forward(self, tokens: Tensor, bag: Bag, condition: Tensor) -> tuple[Tensor, Tensor]:
        """See `Fusion.forward`."""
        slide = bag.slide.masked_fill(~bag.mask, 0)
        n_slides = int(slide.max()) + 1 if slide.numel() else 1
        place = slide_frame(bag.position, bag.mask, slide, n_slides)
        normed = self.norm(tokens)
        keys, where, there = self._anchors(normed, place, bag.mask, slide, condition, n_slides)
        tokens = tokens + self._attend(normed, place, slide, condition, keys, where, there)
        return self.pool(tokens, bag.mask, condition)

    def _anchors(
        self, tokens: Tensor, place: Tensor, mask: Tensor, slide: Tensor, condition: Tensor, n_slides: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Tissue around the moved anchors: (B, S, M + 1, d), their places (B, S, M + 1, 2), and whether any is there."""
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
        return around.view(*split, -1), where.view(*split, 2), there.view(split)

    def _attend(
        self,
        tokens: Tensor,
        place: Tensor,
        slide: Tensor,
        condition: Tensor,
        keys: Tensor,
        where: Tensor,
        there: Tensor,
    ) -> Tensor:
        """Attention of every token to the anchors of its own slide. → (B, N, d)."""
        batch, n_slides, m = there.shape
        query = self._split(self.query(tokens) + self.ask(condition).unsqueeze(1))  # (B, H, N, d_h)
        key, value = self.key_value(keys.flatten(1, 2)).chunk(2, -1)
        key, value = self._split(key), self._split(value)  # (B, H, S·M, d_h)

        # Everything beyond q·k is appended to q and k as further coordinates. Position, per head:
        near = self.locality.exp().view(-1, 1, 1).sqrt()
        query = torch.cat([query / math.sqrt(query.shape[-1]), near * self._waves(place).unsqueeze(1)], -1)
        key = torch.cat([key, near * self._waves(where.flatten(1, 2)).unsqueeze(1)], -1)
        # Slide and emptiness: -_OUT at anchors of another slide or over glass, exactly 0 otherwise.
        own = nn.functional.one_hot(slide, n_slides).to(query.dtype)  # (B, N, S)
        of = torch.eye(n_slides, device=slide.device, dtype=query.dtype).repeat_interleave(m, 0) - 1  # (S·M, S)
        empty = -(~there).flatten(1).to(query.dtype).unsqueeze(-1)  # (B, S·M, 1)
        barred = torch.cat([of.expand(batch, -1, -1), empty], -1) * self._OUT
        seen = torch.cat([own, torch.ones_like(own[..., :1])], -1)
        query = torch.cat([query, seen.unsqueeze(1).expand(-1, self.heads, -1, -1)], -1)
        key = torch.cat([key, barred.unsqueeze(1).expand(-1, self.heads, -1, -1)], -1)
        # Values as wide as the keys: the kernels that keep no tokens × anchors tensor ask for equal widths.
        wide = nn.functional.pad(value.to(query.dtype), (0, query.shape[-1] - value.shape[-1]))
        attended = nn.functional.scaled_dot_product_attention(query, key, wide, scale=1.0)[..., : value.shape[-1]]
        return self.out(attended.transpose(1, 2).flatten(2).to(tokens.dtype))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _waves(self, place: Tensor) -> Tensor:
        """Fourier features whose inner product depends on the difference of two places alone. → (B, N, 2F)."""
        angle = place.to(self.frequency.dtype) @ self.frequency
        return torch.cat([angle.cos(), angle.sin()], -1) / math.sqrt(self.frequency.shape[1])
