"""The contribution of each tile to the backbone's logits, in an exact decomposition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor

from dmml.backbone.backbone import Backbone
from dmml.backbone.blocks import Readout
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
        width = len(PARTS) * backbone.layout["n_predictors"]
        for m in statistics:
            uses_rna_model = backbone.uses_rna_model(has_expression)
            columns = {name: _logit_columns(backbone, name, m, statistics, uses_rna_model) for name in STATISTICS}
            predictors = _tile_shares(backbone.statistics_modules()[m], columns, bags[m], statistics[m], width)
            predictors = predictors.unflatten(-1, (len(PARTS), -1)) * is_from_tiles[:, None, :, None]
            logits = torch.einsum("bnpq,bqc->bnpc", predictors, weight)
            for part, values in zip(PARTS, logits.unbind(2), strict=True):
                tiles[part][m] = values
        half = bias / len(SUBSPACES)
        constant = {s: torch.where(measured[s].unsqueeze(1), output.subspaces[s], half) for s in SUBSPACES}
        return TileContributions(tiles, constant | {"tissue": torch.zeros_like(half)})


@torch.no_grad()
def tile_programs(backbone: Backbone, magnification: int, bag: Bag) -> dict[str, Tensor]:
    """Decompose the backbone's program scores of one magnification over its tiles, by the formulas of `tile_contributions`.

    Args:
        backbone: A fitted backbone.
        magnification: Magnification of the bag.
        bag: The tiles.

    Returns:
        {subspace: (B, N, P)}, 0 at padding, whose sums over the tiles are the scores of `Backbone.programs`; {} if the
        backbone predicts no programs at this magnification.
    """
    if not any(f"programs_{magnification}x_{name}" in backbone.readouts for name in STATISTICS):
        return {}
    with torch.autocast(bag.features.device.type, enabled=False):
        fitted = backbone.statistics_modules()[magnification]
        statistics = fitted(bag)
        columns = {}
        for name, raw in statistics.items():
            readout = backbone.readout(f"programs_{magnification}x_{name}")
            columns[name] = None if readout is None else _Columns.of(readout, slice(None), raw, readout.weight)
        sizes = backbone.layout["programs"]
        shares = _tile_shares(fitted, columns, bag, statistics, sum(sizes.values()))
        shares = shares.split([sizes[s] for s in SUBSPACES], -1)
        return dict(zip(SUBSPACES, shares, strict=True))


@dataclass(frozen=True)
class _Columns:
    """Columns of one statistic at one magnification, with their weights in o outputs.

    Attributes:
        mean: (d,) mean over training patients.
        weight: (B, d, o), including 1 / scale and the factor of clipped columns.
    """

    mean: Tensor
    weight: Tensor

    @property
    def offset(self) -> Tensor:
        """Outputs (B, 1, o) of the mean training patient, to be subtracted once from the sum over all tiles."""
        return (self.mean @ self.weight).unsqueeze(1)

    @classmethod
    def of(cls, readout: Readout, rows: slice, raw: Tensor, weight: Tensor) -> _Columns:
        """Fold the scale and the clipping of some of a readout's columns into their weights.

        Args:
            readout: The readout.
            rows: Its columns of one magnification.
            raw: (B, d) values of these columns.
            weight: (d, o) or (B, d, o) weights of these columns.
        """
        mean, scale = readout.mean[rows], readout.scale[rows]
        z = (raw - mean) / scale
        clipped = z.clamp(-readout.clip, readout.clip)
        factor = torch.where(clipped == z, 1.0, clipped / z) / scale  # (B, d)
        return cls(mean, factor.unsqueeze(-1) * weight)


def _logit_columns(
    backbone: Backbone,
    name: str,
    magnification: int,
    statistics: Mapping[int, Mapping[str, Tensor]],
    uses_rna_model: Tensor,
) -> _Columns | None:
    """Return the weights of a statistic in the three parts' predictors, o = 3 q; None if no part uses it.

    Args:
        backbone: The backbone.
        name: The statistic.
        magnification: Its magnification.
        statistics: Statistics of all magnifications.
        uses_rna_model: (B,) bool.
    """
    readout = backbone.readout(f"slide_{name}")
    if readout is None:
        return None
    # A readout has the columns of all magnifications side by side. All readouts of a statistic come from one block, so
    # they share mean, scale and clip.
    raw = statistics[magnification][name]
    first = sum(statistics[m][name].shape[1] for m in takewhile(lambda m: m != magnification, statistics))
    rows = slice(first, first + raw.shape[1])
    q = backbone.layout["n_predictors"]
    weight = readout.weight[rows].expand(len(raw), -1, -1)  # (B, d, 3 q)
    tissue = weight.new_zeros(q)
    if (tissue_readout := backbone.readout(f"tissue_{name}")) is not None:
        tissue = tissue_readout.weight[rows]
    # The subspaces always get the weights for patients without RNA: with RNA, tiles do not contribute to them.
    tissue = torch.where(uses_rna_model[:, None, None], tissue, weight[..., -q:])
    weight = torch.cat([weight[..., :-q], tissue], -1)
    return _Columns.of(readout, rows, raw, weight)


def _tile_shares(
    fitted: SlideStatistics,
    columns: Mapping[str, _Columns | None],
    bag: Bag,
    statistics: Mapping[str, Tensor],
    width: int,
) -> Tensor:
    """Return what each tile of a magnification adds to the outputs of `columns`, (B, N, o); 0 at padding.

    Args:
        fitted: Module of the statistics.
        columns: {statistic: its columns}; None for one that is not used.
        bag: The tiles.
        statistics: {statistic: (B, columns)} of the bag.
        width: o.
    """
    x, slide = fitted.prepare(bag)
    count = bag.mask.sum(1).clamp_min(1)[:, None, None].float()
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
            values = statistics["contrasts"].unflatten(1, fitted.centres.shape)
            z = fitted.rare_scores(scores[..., len(fitted.centres) :], cluster, values)
            added = added + _rare(z, bag.mask, rare) / count
    return added * bag.mask.unsqueeze(-1)


def _contrasts(fitted: SlideStatistics, columns: _Columns, x: Tensor, slide: Tensor, cluster: Tensor) -> Tensor:
    """Return (x̂_n − s − g_k) · A_k / (N_k + 3), with k the cluster of token n, as (B, N, o)."""
    n_clusters, n_features = fitted.centres.shape
    weight = columns.weight.unflatten(1, (n_clusters, n_features))  # (B, K, D, o)
    flat = (weight / fitted.scale[:, None]).transpose(1, 2).flatten(2)  # (B, D, K · o)
    projected = x @ flat
    mean = (slide.transpose(1, 2) @ projected) / slide.sum(1).clamp_min(1).unsqueeze(-1)
    projected = (projected - slide @ mean).unflatten(-1, (n_clusters, -1))  # (B, N, K, o)
    centre = torch.einsum("kd,bkdo->bko", fitted.centres, weight).unsqueeze(1)
    token_weight = cluster / (cluster.sum(1, keepdim=True) + CONTRAST_SHRINKAGE)
    return (token_weight.unsqueeze(-1) * (projected - centre)).sum(2)


def _rare(z: Tensor, mask: Tensor, columns: _Columns) -> Tensor:
    """Return N times what each token's scores z (B, N, J) along the rare directions add, as (B, N, o)."""
    squares = signed_square(z)
    mean = squares.sum(1, keepdim=True) / mask.sum(1).clamp_min(1)[:, None, None]  # (B, 1, J)
    return (squares / signed_root_scale(mean)) @ columns.weight - columns.offset
