"""The fusion of the paper's released code.

This is an independent implementation from the description of the code. It keeps on purpose what the comparison is
about: a query that is the same at every position, a residual connection from the genes but none from the tissue, a
position MLP, an attention step with one key, and a mean over positions. It changes only what would crash or depend on
the order of a list.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dmml.functional.padding import clear_padding
from dmml.nn.fusion import Fusion, FusionOutput
from dmml.nn.raster import rasterise, slide_frame
from dmml.types import Bag


class ReleasedFusion(Fusion):
    """Deformable cross-attention whose query is the expression alone, followed by a mean over positions.

    The paper writes neither the position MLP of step 4 nor the residual connections of step 5, and the query of its
    selection layer is the subspace's own output. `dmml.nn.paper.fusion.PaperFusion` has the paper's form.

    1. Query: the expression embedding z, repeated at every position; q = W_q LN(z), separately per group of channels.
    2. Offsets: a grid of anchors, moved per group by tanh(W gelu(a ⊙ q + b)) · reach. As the query is the same
       everywhere, so is the offset, and all anchors of a group move together (in the released code, all except those at
       the border, which are affected by zero padding).
    3. Keys and values: a group's channels of the tissue, interpolated bilinearly at the group's moved anchors.
    4. Attention of a position p to an anchor v: q·k / √d_h + MLP(sign(p − v) log(1 + |p − v|)), with one MLP for all
       groups, evaluated on a lattice and interpolated bilinearly.
    5. x = z + attended, y = W x; s = LN(y) + V LN(z), to which attention with one key reduces, because its query and
       key projections have no effect; f = tanh(W' mean over positions of LN(s)); the embedding is tanh(W'' LN(f)).

    Departs from the released code where that would crash or depend on the order of a list. Tokens lie at their true
    positions on a raster of their slide instead of in a square of √N × √N list positions. The tokens of one cell are
    averaged, so that nearly all tokens are read instead of a fifth. Empty cells have no weight, anchors over empty
    glass are masked, and a group whose anchors all miss the tissue reads the slide's mean. The released code joins both
    subspaces in y; here each subspace has a separate fusion, so y reads that subspace alone. The query depends on a
    token only through its position, so attention is computed once per raster cell and weighted by the cell's number of
    tokens: the cost of a token is that of adding it to the raster.

    The returned attention is each token's share in what was read: the bilinear weights of the anchors times the
    attention to them, averaged over positions and groups. The tokens of one cell have equal shares because they are
    averaged; a token that no anchor reads gets 0.

    `gene_attention` is the attention of the constant query to the anchors of each group, averaged over the positions
    of the patient's tokens: (B, heads · anchors²). The released code keeps one value per position instead, whose number
    depends on the slide. It does not include the slide's mean, which is read only by a group whose anchors all miss
    the tissue.

    Args:
        width: Width d of the tokens, a multiple of `heads`.
        heads: Number of channel groups, each with one attention head.
        head_width: Width d_h of a head's queries, keys and values.
        cells: Cells along each side of the raster.
        anchors: Anchors along each side of their grid.
        reach: Largest offset, in anchor spacings.
        position_hidden: Width of the two hidden layers of the position MLP.
        dropout: Dropout rate of the attention.

    Source: `DeformCrossAttention2D` and the fusion of the released code; its offsets and its position MLP on log-spaced
    distances go back to Xia et al. 2022 and Liu et al. 2022 (Swin V2).
    """

    _LATTICE = 64
    """Side of the lattice on which the position MLP is evaluated."""

    def __init__(
        self,
        width: int,
        heads: int = 8,
        head_width: int = 64,
        cells: int = 24,
        anchors: int = 12,
        reach: float = 4.0,
        position_hidden: int = 32,
        dropout: float = 0.1,
    ):
        super().__init__(width)
        if width % heads:
            raise ValueError(f"width must be a multiple of heads; got width={width}, heads={heads}")
        self.heads, self.cells, self.anchors, self.max_offset = heads, cells, anchors, 2 * reach / anchors
        self.norm = nn.LayerNorm(width)  # shared by expression, tissue and joined features, as in the released code
        bound = (width // heads) ** -0.5
        self.query, self.key, self.value = (
            nn.Parameter(torch.empty(heads, width // heads, head_width).uniform_(-bound, bound)) for _ in range(3)
        )
        # A depthwise convolution over an image that is the same everywhere is a factor and a shift per channel.
        self.offset_scale = nn.Parameter(torch.empty(head_width).uniform_(-1, 1))
        self.offset_shift = nn.Parameter(torch.empty(head_width).uniform_(-1 / 6, 1 / 6))
        self.offset = nn.Linear(head_width, 2, bias=False)
        self.position_bias = nn.Sequential(
            nn.Linear(2, position_hidden),
            nn.ReLU(),
            nn.Linear(position_hidden, position_hidden),
            nn.ReLU(),
            nn.Linear(position_hidden, 1, bias=False),  # a softmax cancels a bias
        )
        self.dropout = nn.Dropout(dropout)
        self.out, self.project_joined = nn.Linear(heads * head_width, width), nn.Linear(width, width)
        self.single_key_attention = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.Linear(width, width))
        self.norm_attended, self.norm_pooled = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project_pooled, self.out_embedding = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, tokens: Tensor, bag: Bag, condition: Tensor) -> FusionOutput:
        """See `Fusion.forward`."""
        slide, n_slides = bag.slide.masked_fill(~bag.mask, 0), bag.count_slides()
        position = slide_frame(bag.position, bag.mask, slide, n_slides)
        normed = self.norm(clear_padding(tokens, bag.mask))
        sums, counts = rasterise(normed, position, bag.mask, slide, n_slides, self.cells)
        size = bag.mask.sum(1).clamp_min(1).repeat_interleave(n_slides)  # (F,), F = B·S
        counts = counts.squeeze(1).float()  # (F, c, c)
        weight = counts / size[:, None, None]  # share of the patient's tokens in each cell

        query = self.norm(condition).repeat_interleave(n_slides, 0)  # (F, d)
        with torch.autocast(counts.device.type, enabled=False):  # float32, so that the shares of the tokens add up to 1
            attended, attention, to_anchors = self._attend(query.float(), sums.float(), counts, weight)
        joined = self.project_joined(condition.repeat_interleave(n_slides, 0)[:, None] + attended)  # (F, c², d)
        attended = self.norm(joined) + self.single_key_attention(query)[:, None]
        by_slide = (self.norm_attended(attended).float() * weight.flatten(1).unsqueeze(-1)).sum(1)  # (F, d)
        mean = by_slide.unflatten(0, (len(tokens), n_slides)).sum(1)  # (B, d)
        embedding = self.out_embedding(self.norm_pooled(self.project_pooled(mean).tanh())).tanh()

        # The cell of each token, as in `rasterise`: (B, N, 2) as x, y
        cell = ((position + 1) / 2 * self.cells).long().clamp(0, self.cells - 1)
        index = (slide * self.cells + cell[..., 1]) * self.cells + cell[..., 0]
        attention = attention.reshape(len(tokens), -1).gather(1, index) * bag.mask
        gene_attention = to_anchors.unflatten(0, (len(tokens), n_slides)).sum(1)  # weighted by the tokens of each slide
        return FusionOutput(embedding * bag.mask.any(1, keepdim=True), attention, gene_attention.flatten(1))

    def _attend(self, condition: Tensor, sums: Tensor, counts: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Let every cell of the raster attend to the moved anchors.

        Args:
            condition: (F, d) normalised expression embedding.
            sums: (F, d, c, c) sums of the tokens in each cell.
            counts: (F, c, c) number of tokens in each cell.
            weight: (F, c, c) share of the patient's tokens in each cell.

        Returns:
            The attended values (F, c², d), the share (F, c, c) of a single token of each cell in what was read, and the
            attention (F, H, M) to the moved anchors, summed over cells by their weight.
        """
        query = torch.einsum("fhg,hge->fhe", condition.unflatten(1, (self.heads, -1)), self.query)
        offset = self.offset(nn.functional.gelu(query * self.offset_scale + self.offset_shift)).tanh() * self.max_offset
        anchor_position = _centres(self.anchors, counts) + offset.float().unsqueeze(
            -1
        )  # (F, H, 2, A), along x and along y
        # Weights of the raster's columns and rows at each anchor, (F, H, A, c) each
        across, down = _interpolation_weights((anchor_position + 1) / 2 * self.cells - 0.5, self.cells).unbind(2)

        n_tokens = torch.einsum("fhay,fyx,fhbx->fhab", down, counts, across).flatten(2)  # (F, H, M)
        tissue = sums.unflatten(1, (self.heads, -1))  # (F, H, g, c, c)
        around = torch.einsum("fhay,fhgyx,fhbx->fhabg", down, tissue, across).flatten(2, 3)
        has_tissue = n_tokens > 1e-3
        around = around / n_tokens.clamp_min(1e-3).unsqueeze(-1)
        total = counts.sum((1, 2)).clamp_min(1)
        mean = tissue.sum((3, 4)) / total[:, None, None]  # read if all anchors of a group miss the tissue
        around = torch.cat([around, mean.unsqueeze(2)], 2)  # (F, H, M + 1, g)
        has_tissue = torch.cat([has_tissue, ~has_tissue.any(2, keepdim=True)], 2)

        key, value = (torch.einsum("fhmg,hge->fhme", around, w) for w in (self.key, self.value))
        content = torch.einsum("fhe,fhme->fhm", query, key) / math.sqrt(key.shape[-1])
        logits = content.unsqueeze(2) + nn.functional.pad(
            self._position_logits(anchor_position), (0, 1)
        )  # (F, H, c², M + 1)
        attention = logits.float().masked_fill(~has_tissue.unsqueeze(2), float("-inf")).softmax(-1)
        attended = self.out((self.dropout(attention).to(value.dtype) @ value).transpose(1, 2).flatten(2))

        to_anchors = torch.einsum("fhqm,fq->fhm", attention, weight.flatten(1))
        weight_of_anchor = to_anchors / self.heads
        per_token = (weight_of_anchor[..., :-1] / n_tokens.clamp_min(1e-3)).unflatten(2, (self.anchors, self.anchors))
        per_cell = torch.einsum("fhay,fhab,fhbx->fyx", down, per_token, across)
        per_cell = per_cell + (weight_of_anchor[..., -1].sum(1) / total)[:, None, None]
        return attended, per_cell, to_anchors[..., :-1]

    def _position_logits(self, anchor_position: Tensor) -> Tensor:
        """Logits of position between every cell of the raster and every anchor. (F, H, 2, A) → (F, H, c², A²).

        The MLP is a function of two numbers. It is evaluated on a lattice and interpolated bilinearly, which takes two
        products with sparse weights, one along each axis.
        """
        limit = math.log1p(2 + self.max_offset)  # largest value of sign(p − v) log(1 + |p − v|)
        line = torch.linspace(-limit, limit, self._LATTICE, device=anchor_position.device)
        down, across = torch.meshgrid(line, line, indexing="ij")
        table = self.position_bias(torch.stack([across, down], -1)).squeeze(-1)  # (R, R) as y, x
        distance = _centres(self.cells, anchor_position).unsqueeze(-1) - anchor_position.unsqueeze(3)  # (F, H, 2, c, A)
        log_distance = distance.sign() * distance.abs().log1p()
        index = (log_distance / limit + 1) / 2 * (self._LATTICE - 1)
        weights = _interpolation_weights(index, self._LATTICE)  # (F, H, 2, c, A, R)
        along_x, along_y = (axis.flatten(2, 3) for axis in weights.unbind(2))  # (F, H, c·A, R)
        bias = along_y @ table.to(weights.dtype) @ along_x.transpose(2, 3)  # (F, H, c·A, c·A)
        bias = bias.unflatten(3, (self.cells, self.anchors)).unflatten(2, (self.cells, self.anchors))
        return bias.transpose(3, 4).flatten(4).flatten(2, 3)  # (F, H, c, A, c, A) → (F, H, c², A²)


def _centres(n: int, like: Tensor) -> Tensor:
    """Centres of n equal parts of [−1, 1]. → (n,)."""
    return (torch.arange(n, device=like.device) + 0.5) / n * 2 - 1


def _interpolation_weights(index: Tensor, n: int) -> Tensor:
    """Weights of linear interpolation between n points: max(0, 1 − |index − i|), 0 beyond them. (…) → (…, n)."""
    return (1 - (index.unsqueeze(-1) - torch.arange(n, device=index.device)).abs()).clamp_min(0)
