"""What a model computes from the raw features of one magnification: tokens, a tissue-specific part, statistics."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dmml.backbone.slide_statistics import SlideStatistics
from dmml.nn.joint_product import joint_product
from dmml.nn.projection import TokenProjection, clean_features
from dmml.nn.tissue import TissueSpecificHead
from dmml.types import Bag


class FeaturesRead(NamedTuple):
    """Everything that a model computes from the features of a bag; they are not read again."""

    tokens: Tensor
    """(B, N, d) for the subspaces"""
    specific: tuple[Tensor, Tensor] | None
    """Logits (B, C) and attention (B, N) of the tissue-specific part; None = the model has none"""
    statistics: dict[str, Tensor] | None
    """{statistic: (B, columns)} for the backbone; None = they were not needed"""


def read_features(
    bag: Bag, projection: TokenProjection, head: TissueSpecificHead | None, statistics: SlideStatistics | None
) -> FeaturesRead:
    """Read a bag's features: without gradients in one product for all parts, with gradients part by part.

    Args:
        bag: Of one magnification.
        projection: Of that magnification.
        head: None = the model has no tissue-specific part.
        statistics: None = the backbone need not read this bag, or there is none.
    """
    if not torch.is_grad_enabled() and _is_single_precision(bag, projection):
        return _read_jointly(bag, projection, head, statistics)
    features = clean_features(bag.features, bag.mask, projection.linear.weight.dtype)
    specific = None if head is None else head(features, bag.mask)
    own = None if statistics is None else statistics(bag)
    return FeaturesRead(projection(features, bag.mask), specific, own)


def _is_single_precision(bag: Bag, projection: TokenProjection) -> bool:
    """Whether all parts compute in float32: statistics always do, the others follow the model and autocast."""
    return projection.linear.weight.dtype == torch.float32 and not torch.is_autocast_enabled(bag.features.device.type)


def _read_jointly(
    bag: Bag, projection: TokenProjection, head: TissueSpecificHead | None, statistics: SlideStatistics | None
) -> FeaturesRead:
    if statistics is None:
        features = bag.features.float()  # the others clear padding after the product
    else:
        features, slide = statistics.prepare(bag)
    lines = [projection.linear.folded()]
    if head is not None:
        lines.append(head.project.folded())
    if statistics is not None:
        lines.append(statistics.line())
    products = joint_product(features, lines)
    own = None if statistics is None else statistics.from_scores(features, slide, products.pop(), bag.mask)
    specific = None if head is None else head.pool_projected(products.pop(), bag.mask)
    return FeaturesRead(projection.finish(products.pop(), bag.mask), specific, own)
