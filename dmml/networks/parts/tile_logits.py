"""Contribution of each tile to a model's logits, from backbone and deep part together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from dmml.backbone.tile_contributions import PARTS, TileContributions, tile_contributions
from dmml.networks.parts.bags import bag_of
from dmml.nn.projection import clean_features
from dmml.types import Batch

if TYPE_CHECKING:
    from dmml.networks.subspace_network import SubspaceNetwork


@torch.no_grad()
def tile_logits(model: SubspaceNetwork, batch: Batch) -> TileContributions:
    """Divide those parts of the logits among tiles that can be divided exactly.

    These are the whole backbone (`tile_contributions`) and the deep tissue-specific part, scaled by the share of the
    deep part. In the latter, a tile contributes its attention times the head's logits for it, divided by the number of
    magnifications that the patient has, because the deep part of a magnification only affects the logits of that
    magnification. Summed over all tiles, "tissue" is the mean of the magnifications' tissue-specific logits. The deep
    part of the two subspaces passes through nonlinear layers and is left out.

    Args:
        model: Model in eval mode; without a fitted backbone, only the tissue-specific part is divided.
        batch: Batch to decompose; magnifications that it lacks are left out.
    """
    bags = {m: bag_of(batch, m, model.n_features or 0) for m in model.magnifications}
    if model.has_backbone:
        backbone = tile_contributions(model._require_backbone(), bags, batch.expression, batch.has_expression)
    else:
        nothing = batch.has_expression.new_zeros(len(batch.has_expression), model.task.n_outputs, dtype=torch.float32)
        backbone = TileContributions({part: {} for part in PARTS}, dict.fromkeys(PARTS, nothing))
    present = {m: bag for m, bag in bags.items() if m in batch.bags and batch.bags[m].features.shape[1]}
    tiles = {part: {m: values for m, values in backbone.tiles[part].items() if m in present} for part in PARTS}
    deep_share = model._share("deep_share")
    if not (model.tissue_specific and model.n_features and deep_share):
        return TileContributions(tiles, backbone.constant)
    available = torch.stack([bag.mask.any(1) for bag in bags.values()]).sum(0).clamp_min(1)
    share = deep_share / available[:, None, None]
    for m, bag in present.items():
        head = model.tissue_heads[f"{m}x"]
        features = clean_features(bag.features, bag.mask, head.project.weight.dtype)
        deep = share * head.tile_logits(features, bag.mask)
        tiles["tissue"][m] = tiles["tissue"][m] + deep if m in tiles["tissue"] else deep
    return TileContributions(tiles, backbone.constant)
