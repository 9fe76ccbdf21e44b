"""The fusion as the paper writes it: deformable attention from genes to tissue, then the gene selection layer."""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from dmml.nn.fusion import Fusion, FusionOutput
from dmml.nn.paper.selection import GeneSelection
from dmml.nn.raster import rasterise, sample, slide_frame, spread
from dmml.types import Bag


class _Read(NamedTuple):
    """What the gene tokens read from the F = B·S slides of a batch."""

    values: Tensor
    """(F, H, T, d_h) attended values"""
    to_anchors: Tensor
    """(F, H, T, M) attention to the moved anchors"""
    per_cell: Tensor
    """(F, c, c) share of a single token of each cell in what was read"""


class PaperFusion(Fusion):
    """Deformable attention from gene tokens to tissue, and a selection among the gene tokens by what they read.

    1. Offsets come from the genes alone: Δp = reach · tanh(W₂ mean_t gelu(W₁ x_t)), for every head and every anchor p
       of a uniform grid (eq. 1). The paper's Ψ is two convolutions and a scaler over the map of the genes; as gene
       tokens have no positions, ours has two linear layers and a scaler.
    2. The tissue X̂ is sampled bilinearly at the moved anchors p + Δp (eq. 2) from a raster that averages all tokens of
       a slide at their true coordinates, so every token takes part and the cost is linear in tokens. Anchors over empty
       glass are masked; a head whose anchors all miss the tissue reads the slide's mean.
    3. The gene tokens X_G are the queries: Z_M = concat_I( softmax(X_G W_Q (X̂ W_K)ᵀ / √d_h) X̂ W_V ) W_M (eq. 3),
       without a residual connection, a norm, dropout or a position bias. The slides of a patient are averaged, weighted
       by their numbers of tokens.
    4. Z_O = `GeneSelection`(Z_M, X_G) (eqs 4 and 5).
    5. The paper does not say how Z_O becomes the subspace's embedding. Here it is tanh(W mean_t Z_O + b), half of what
       the released code does (a mean, and twice a linear layer and tanh).

    The embedding is the subspace's whole embedding: nothing is added to it. For a patient without tissue, the gene
    tokens themselves stand for Z_M, so that the embedding depends on the genes alone. If the condition is one vector
    per patient, there is one gene token, among which nothing can be selected: the embedding is then a function of the
    genes alone for every patient.

    `attention` is each token's share in what was read: the bilinear weights of the anchors times the attention to
    them, averaged over heads and gene tokens. Tokens of one cell have equal shares because they are averaged.
    `gene_attention` is the attention of every gene token to every anchor of every head, (B, heads · T · anchors²),
    which sums to heads · T if every head finds tissue, and is 0 without tissue.

    Grid, heads and widths are not given by the paper; heads, anchors and reach are those of the released code.

    Args:
        width: Width d of tokens, gene tokens and embedding, a multiple of `heads`.
        heads: Number of attention heads H, in both layers.
        head_width: Width d_h of a head's queries, keys and values in the first layer.
        cells: Cells along each side of the raster.
        anchors: Anchors along each side of their grid, of M = anchors² anchors.
        reach: Largest offset, in anchor spacings.
        offset_hidden: Width of the hidden layer of the offsets.
        selection: Whether step 4 is there; without it Z_M goes on, for an ablation as in table IV of the paper.

    Source: eqs 1 to 5 of the paper.
    """

    reads_gene_tokens: ClassVar[bool] = True
    is_whole_embedding: ClassVar[bool] = True

    def __init__(
        self,
        width: int,
        heads: int = 8,
        head_width: int = 16,
        cells: int = 24,
        anchors: int = 12,
        reach: float = 4.0,
        offset_hidden: int = 32,
        selection: bool = True,
    ):
        super().__init__(width)
        if width % heads:
            raise ValueError(f"width must be a multiple of heads; got width={width}, heads={heads}")
        self.heads, self.cells, self.max_offset = heads, cells, 2 * reach / anchors
        steps = (torch.arange(anchors) + 0.5) / anchors * 2 - 1
        grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).view(-1, 2)
        self.grid: Tensor
        self.register_buffer("grid", grid, persistent=False)  # (M, 2) as x, y
        self.genes_to_hidden = nn.Linear(width, offset_hidden)
        self.hidden_to_offset = nn.Linear(offset_hidden, heads * len(grid) * 2)
        nn.init.normal_(self.hidden_to_offset.weight, std=0.01)
        nn.init.zeros_(self.hidden_to_offset.bias)
        # Each head samples at anchors of its own, so each has matrices of its own.
        self.query, self.key, self.value = (
            nn.Parameter(torch.randn(heads, width, head_width) * width**-0.5) for _ in range(3)
        )
        self.out = nn.Linear(heads * head_width, width, bias=False)
        self.selection = GeneSelection(width, heads) if selection else None
        self.to_embedding = nn.Linear(width, width)

    def forward(self, tokens: Tensor, bag: Bag, condition: Tensor) -> FusionOutput:
        """See `Fusion.forward`. The condition (B, T, d) is gene tokens, or (B, d) one gene token."""
        genes = condition if condition.dim() == 3 else condition.unsqueeze(1)
        slide, n_slides = bag.slide.masked_fill(~bag.mask, 0), bag.count_slides()
        position = slide_frame(bag.position, bag.mask, slide, n_slides)
        sums, counts = rasterise(tokens, position, bag.mask, slide, n_slides, self.cells)
        share = counts.sum((1, 2, 3)) / bag.mask.sum(1).clamp_min(1).repeat_interleave(n_slides)  # (F,) of its patient
        with torch.autocast(counts.device.type, enabled=False):  # float32, so that the shares of the tokens add up to 1
            read = self._read(genes.float().repeat_interleave(n_slides, 0), sums.float(), counts.float())
        by_patient = [
            (part * share.view(-1, 1, 1, 1)).unflatten(0, (len(tokens), n_slides)).sum(1)
            for part in (read.values, read.to_anchors)
        ]
        fused = self.out(by_patient[0].transpose(1, 2).flatten(2))  # (B, T, d)
        fused = torch.where(bag.mask.any(1)[:, None, None], fused, genes.to(fused.dtype))
        output = fused if self.selection is None else self.selection(fused, genes)
        embedding = self.to_embedding(output.mean(1)).tanh()

        # The cell of each token, as in `rasterise`: (B, N, 2) as x, y
        cell = ((position + 1) / 2 * self.cells).long().clamp(0, self.cells - 1)
        index = (slide * self.cells + cell[..., 1]) * self.cells + cell[..., 0]
        per_cell = read.per_cell * share.view(-1, 1, 1)
        attention = per_cell.reshape(len(tokens), -1).gather(1, index) * bag.mask
        return FusionOutput(embedding, attention, by_patient[1].flatten(1))

    def _read(self, genes: Tensor, sums: Tensor, counts: Tensor) -> _Read:
        """Let the gene tokens attend to the moved anchors of their slide.

        Args:
            genes: (F, T, d) gene tokens of each slide's patient.
            sums: (F, d, c, c) sums of the tokens in each cell.
            counts: (F, 1, c, c) number of tokens in each cell.
        """
        hidden = nn.functional.gelu(self.genes_to_hidden(genes)).mean(1)
        offset = self.hidden_to_offset(hidden).tanh().view(len(genes), self.heads, -1, 2) * self.max_offset
        moved = (self.grid + offset).flatten(1, 2)  # (F, H·M, 2)
        around, has_tissue = sample(sums, counts, moved)
        n_tokens = nn.functional.grid_sample(counts, moved.unsqueeze(1), align_corners=False).flatten(1)  # (F, H·M)
        by_head = (self.heads, len(self.grid))
        around, has_tissue = around.unflatten(1, by_head), has_tissue.unflatten(1, by_head)
        total = counts.sum((1, 2, 3)).clamp_min(1)
        mean = sums.sum((2, 3)) / total.unsqueeze(1)  # read if all anchors of a head miss the tissue
        around = torch.cat([around, mean[:, None, None].expand(-1, self.heads, -1, -1)], 2)  # (F, H, M + 1, d)
        has_tissue = torch.cat([has_tissue, ~has_tissue.any(2, keepdim=True)], 2)

        query = torch.einsum("ftd,hde->fhte", genes, self.query)
        key, value = (torch.einsum("fhmd,hde->fhme", around, w) for w in (self.key, self.value))
        logits = query @ key.transpose(2, 3) / math.sqrt(key.shape[-1])  # (F, H, T, M + 1)
        attention = logits.masked_fill(~has_tissue.unsqueeze(2), float("-inf")).softmax(-1)

        weight = attention.mean(2) / self.heads  # (F, H, M + 1), sums to 1 over heads and anchors
        per_token = weight[..., :-1].flatten(1) / n_tokens.clamp_min(1e-3)
        per_cell = spread(per_token, moved, self.cells) + (weight[..., -1].sum(1) / total)[:, None, None]
        return _Read(attention @ value, attention[..., :-1], per_cell)
