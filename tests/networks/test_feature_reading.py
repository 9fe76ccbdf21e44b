"""In inference, one product of the features gives the same as each layer by itself."""

import pytest
import torch
from batches import DIM, make_bag
from fitted_backbones import fitted_backbone
from torch.testing import assert_close

from dmml.functional.activation import gated, gelu
from dmml.networks.parts.feature_reading import read_features
from dmml.nn.joint_product import joint_product
from dmml.nn.projection import TokenProjection
from dmml.nn.tissue import TissueSpecificHead

WIDTH = 12


@pytest.fixture(scope="module")
def parts():
    """Projection, tissue-specific part and statistics of one magnification, on features of another mean and scale."""
    torch.manual_seed(0)
    projection, head = TokenProjection(DIM, WIDTH).eval(), TissueSpecificHead(DIM, 3).eval()
    for line in (projection.linear, head.project):
        line.mean.copy_(torch.randn(DIM))
        line.scale.copy_(torch.rand(DIM) + 0.5)
    return projection, head, fitted_backbone()[0].statistics["20x"]


def bag_with(garbage):
    bag = make_bag([70, 33, 0], DIM, slides=[2, 1, 1])
    bag.features.masked_fill_(~bag.mask.unsqueeze(-1), garbage)
    return bag


def close(reading, expected):
    assert_close(reading.tokens, expected.tokens, atol=1e-5, rtol=1e-5)
    for a, b in zip(reading.specific or (), expected.specific or (), strict=True):
        assert_close(a, b, atol=1e-5, rtol=1e-5)
    assert (reading.statistics or {}).keys() == (expected.statistics or {}).keys()
    for name, values in (reading.statistics or {}).items():
        assert_close(values, expected.statistics[name], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("garbage", [0.0, float("nan"), float("inf")])
@pytest.mark.parametrize("without", [(), ("head",), ("statistics",), ("head", "statistics")])
def test_a_single_product_gives_the_same_as_each_layer_by_itself(parts, without, garbage):
    projection, head, statistics = parts
    head, statistics = None if "head" in without else head, None if "statistics" in without else statistics
    bag = bag_with(garbage)
    part_by_part = read_features(bag, projection, head, statistics)
    assert part_by_part.tokens.requires_grad
    with torch.no_grad():
        close(read_features(bag, projection, head, statistics), part_by_part)
    with torch.inference_mode():
        close(read_features(bag, projection, head, statistics), part_by_part)


def test_reading_does_not_change_the_features(parts):
    bag = bag_with(0.0)
    before = bag.features.clone()
    with torch.no_grad():
        read_features(bag, *parts)
    assert torch.equal(bag.features, before)


def test_under_autocast_statistics_stay_in_single_precision(parts):
    bag = bag_with(0.0)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        reading = read_features(bag, *parts)
    for name, values in parts[2](bag).items():
        assert_close(reading.statistics[name], values)
    assert reading.specific[0].dtype == torch.bfloat16


@pytest.mark.parametrize("widths", [[3], [16, 16], [5, 2, 30]])
def test_a_joint_product_equals_the_product_of_each_layer(widths):
    features = torch.randn(2, 9, DIM)
    lines = [(torch.randn(k, DIM), torch.randn(k)) for k in widths]
    for product, (weight, bias) in zip(joint_product(features, lines), lines, strict=True):
        assert_close(product, features @ weight.T + bias, atol=1e-5, rtol=1e-5)


def test_in_place_activations_equal_those_with_gradients():
    x, y = torch.randn(7, 5), torch.randn(7, 5)
    smooth, product = gelu(x.clone()), gated(x.clone(), y.clone())
    with torch.no_grad():
        assert_close(gelu(x.clone()), smooth)
        assert_close(gated(x.clone(), y.clone()), product)
