"""The contribution of each tile to the backbone's logits, in an exact decomposition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor

from dmml.backbone.backbone import Backbone
from dmml.backbone.slide_statistics import (
    CONTRAST_SHRINKAGE,
    STATISTICS,
    SlideStatistics,
    signed_root_scale,
    signed_square,
)
from dmml.types import SUBSPACES, Bag

PARTS = (*SUBSPACES, "tissue")
"""Parts of a model's logits: the two subspaces, and the tissue-specific part that belongs to neither"""


@dataclass(frozen=True)
class TileContributions:
    """The backbone's logits, decomposed by part and tile.

    Each part of the backbone's logits equals Σ_m Σ_n tiles[part][m][:, n] + constant[part].

    Attributes:
        tiles: {part: {magnification: (B, N_m, C)}}, 0 at padding.
        constant: {part: (B, C)} what no tile contributes: the calibration's bias, and logits from measured RNA.
    """

    tiles: dict[str, dict[int, Tensor]]
    constant: dict[str, Tensor]


@torch.no_grad()
def tile_contributions(
    backbone: Backbone, bags: Mapping[int, Bag], expression: Mapping[str, Tensor], has_expression: Tensor
) -> TileContributions:
    """Decompose the backbone's logits over tiles.

    Tiles are compared with the mean training patient, so that tissue with average statistics adds 0, whatever its size.
    If a patient has N tiles at a magnification, and a standardised statistic has weights A and training mean μ, then
    tile n, in cluster k and with slide mean s, adds

    - shift: (x̂_n − μ) · A / N;
    - composition: A_k / N − μ · A / N;
    - contrasts: (x̂_n − s − g_k) · A_k / (N_k + 3) − μ · A / N, where s is held fixed, so that a tile is compared with
      its slide;
    - rare: with r = mean e |e|, e_n |e_n| A / (N √(|r| + 0.01)) − μ A / N.

    If a column is clipped, all contributions to it are scaled by clipped / unclipped, so that the sum remains exact.

    Args:
        backbone: A fitted backbone.
        bags: {magnification: Bag} for all magnifications that the backbone uses, each with at least one token, which
            may be padding.
        expression: {subspace: (B, G)} standardised.
        has_expression: (B,) bool. With measured RNA, a subspace is computed from RNA, and tiles add 0 to it.
    """
    with torch.autocast(has_expression.device.type, enabled=False):
        statistics = backbone.slide_statistics(bags)
        output = backbone(bags, expression, has_expression)
        bias, weight = backbone.calibration(has_expression)
        measured = backbone.is_computed_from_rna(expression, has_expression)
        is_from_tiles = torch.stack([~measured[s] for s in SUBSPACES] + [torch.ones_like(has_expression)], 1)  # (B, 3)
        tiles: dict[str, dict[int, Tensor]] = {part: {} for part in PARTS}
        for m in statistics:
            predictors = _tile_predictors(backbone, m, bags[m], statistics, backbone.uses_rna_model(has_expression))
            predictors = predictors * is_from_tiles[:, None, :, None]
            logits = torch.einsum("bnpq,bqc->bnpc", predictors, weight)
            for part, values in zip(PARTS, logits.unbind(2), strict=True):
                tiles[part][m] = values
        half = bias / len(SUBSPACES)
        constant = {s: torch.where(measured[s].unsqueeze(1), output.subspaces[s], half) for s in SUBSPACES}
        return TileContributions(tiles, constant | {"tissue": torch.zeros_like(half)})


@dataclass(frozen=True)
class _Columns:
    """Columns of one statistic at one magnification, with their weights in the three parts' predictors.

    Attributes:
        mean: (d,) mean over training patients.
        weight: (B, d, 3 q), including 1 / scale and the factor of clipped columns.
    """

    mean: Tensor
    weight: Tensor

    @property
    def offset(self) -> Tensor:
        """Predictors (B, 1, 3 q) of the mean training patient, to be subtracted once from the sum over all tiles."""
        return (self.mean @ self.weight).unsqueeze(1)


def _columns(
    backbone: Backbone,
    name: str,
    magnification: int,
    statistics: Mapping[int, Mapping[str, Tensor]],
    uses_rna_model: Tensor,
) -> _Columns | None:
    """Return the weights of a statistic at a magnification, given `uses_rna_model` (B,) bool; None if no part uses it."""
    readout = backbone.readout(f"slide_{name}")
    if readout is None:
        return None
    # A readout has the columns of all magnifications side by side. All readouts of a statistic come from one block, so
    # they share mean, scale and clip.
    raw = statistics[magnification][name]
    first = sum(statistics[m][name].shape[1] for m in takewhile(lambda m: m != magnification, statistics))
    rows = slice(first, first + raw.shape[1])
    mean, scale = readout.mean[rows], readout.scale[rows]
    z = (raw - mean) / scale
    clipped = z.clamp(-readout.clip, readout.clip)
    factor = torch.where(clipped == z, 1.0, clipped / z) / scale  # (B, d)
    q = backbone.layout["n_predictors"]
    weight = readout.weight[rows].expand(len(raw), -1, -1)  # (B, d, 3 q)
    tissue = weight.new_zeros(q)
    if (tissue_readout := backbone.readout(f"tissue_{name}")) is not None:
        tissue = tissue_readout.weight[rows]
    # The subspaces always get the weights for patients without RNA: with RNA, tiles do not contribute to them.
    tissue = torch.where(uses_rna_model[:, None, None], tissue, weight[..., -q:])
    weight = torch.cat([weight[..., :-q], tissue], -1)
    return _Columns(mean, factor.unsqueeze(-1) * weight)


def _tile_predictors(
    backbone: Backbone,
    magnification: int,
    bag: Bag,
    statistics: Mapping[int, Mapping[str, Tensor]],
    uses_rna_model: Tensor,
) -> Tensor:
    """Return what each tile of a magnification adds to the predictors of `PARTS`, (B, N, 3, q); 0 at padding."""
    fitted = backbone.statistics_modules()[magnification]
    columns = {name: _columns(backbone, name, magnification, statistics, uses_rna_model) for name in STATISTICS}
    x, slide = fitted.prepare(bag)
    count = bag.mask.sum(1).clamp_min(1)[:, None, None].float()
    width = len(PARTS) * backbone.layout["n_predictors"]
    added = x.new_zeros(*x.shape[:2], width)
    if (shift := columns["shift"]) is not None:
        weight = shift.weight / fitted.scale.unsqueeze(-1)
        added = added + (x @ weight - (fitted.mean @ weight).unsqueeze(1) - shift.offset) / count
    if len(fitted.centres):
        scores, cluster = fitted.assign(x, slide, bag.mask)
        if (composition := columns["composition"]) is not None:
            added = added + (cluster @ composition.weight - composition.offset) / count
        if (contrasts := columns["contrasts"]) is not None:
            added = added + _contrasts(fitted, contrasts, x, slide, cluster) - contrasts.offset / count
        if (rare := columns["rare"]) is not None:
            values = statistics[magnification]["contrasts"].unflatten(1, fitted.centres.shape)
            z = fitted.rare_scores(scores[..., len(fitted.centres) :], cluster, values)
            added = added + _rare(z, bag.mask, rare) / count
    return (added * bag.mask.unsqueeze(-1)).unflatten(-1, (len(PARTS), -1))


def _contrasts(fitted: SlideStatistics, columns: _Columns, x: Tensor, slide: Tensor, cluster: Tensor) -> Tensor:
    """Return (x̂_n − s − g_k) · A_k / (N_k + 3), with k the cluster of token n, as (B, N, 3 q)."""
    n_clusters, n_features = fitted.centres.shape
    weight = columns.weight.unflatten(1, (n_clusters, n_features))  # (B, K, D, 3 q)
    flat = (weight / fitted.scale[:, None]).transpose(1, 2).flatten(2)  # (B, D, K · 3 q)
    projected = x @ flat
    mean = (slide.transpose(1, 2) @ projected) / slide.sum(1).clamp_min(1).unsqueeze(-1)
    projected = (projected - slide @ mean).unflatten(-1, (n_clusters, -1))  # (B, N, K, 3 q)
    centre = torch.einsum("kd,bkdo->bko", fitted.centres, weight).unsqueeze(1)
    token_weight = cluster / (cluster.sum(1, keepdim=True) + CONTRAST_SHRINKAGE)
    return (token_weight.unsqueeze(-1) * (projected - centre)).sum(2)


def _rare(z: Tensor, mask: Tensor, columns: _Columns) -> Tensor:
    """Return N times what each token's scores z (B, N, J) along the rare directions add, as (B, N, 3 q)."""
    squares = signed_square(z)
    mean = squares.sum(1, keepdim=True) / mask.sum(1).clamp_min(1)[:, None, None]  # (B, 1, J)
    return (squares / signed_root_scale(mean)) @ columns.weight - columns.offset
