"""Computes everything that a model takes from raw features: tokens, the tissue-specific part and slide statistics."""

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
    """Everything that a model computes from the features of a bag, which are read only once."""

    tokens: Tensor
    """(B, N, d) for the subspaces"""
    specific: tuple[Tensor, Tensor] | None
    """Logits (B, C) and attention (B, N) of the tissue-specific part; None = the model has no such part"""
    statistics: dict[str, Tensor] | None
    """{statistic: (B, columns)} for the backbone; None = they were not needed"""


def read_features(
    bag: Bag, projection: TokenProjection, head: TissueSpecificHead | None, statistics: SlideStatistics | None
) -> FeaturesRead:
    """Read a bag's features: in one matrix product for all parts if no gradients are needed, otherwise part by part.

    The joint product also requires that all parts compute in float32.

    Args:
        bag: Bag of one magnification.
        projection: Token projection of that magnification.
        head: Tissue-specific head of that magnification; None = the model has no tissue-specific part.
        statistics: Statistics module of that magnification; None = there is no backbone, or it need not read this bag.
    """
    if not torch.is_grad_enabled() and _is_single_precision(bag, projection):
        return _read_jointly(bag, projection, head, statistics)
    features = clean_features(bag.features, bag.mask, projection.linear.weight.dtype)
    specific = None if head is None else head(features, bag.mask)
    slide_statistics = None if statistics is None else statistics(bag)
    return FeaturesRead(projection(features, bag.mask), specific, slide_statistics)


def _is_single_precision(bag: Bag, projection: TokenProjection) -> bool:
    """Whether all parts compute in float32: statistics always do, the other parts follow the model and autocast."""
    return projection.linear.weight.dtype == torch.float32 and not torch.is_autocast_enabled(bag.features.device.type)


def _read_jointly(
    bag: Bag, projection: TokenProjection, head: TissueSpecificHead | None, statistics: SlideStatistics | None
) -> FeaturesRead:
    if statistics is None:
        features = bag.features.float()  # projection and head clear padding after the product
    else:
        features, slide = statistics.prepare(bag)
    lines = [projection.linear.folded()]
    if head is not None:
        lines.append(head.project.folded())
    if statistics is not None:
        lines.append(statistics.score_layer())
    products = joint_product(features, lines)
    slide_statistics = None if statistics is None else statistics.from_scores(features, slide, products.pop(), bag.mask)
    specific = None if head is None else head.pool_projected(products.pop(), bag.mask)
    return FeaturesRead(projection.finish(products.pop(), bag.mask), specific, slide_statistics)
