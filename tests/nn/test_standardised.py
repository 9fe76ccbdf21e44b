"""A linear layer on features that are standardised by statistics of the training patients."""

import pytest
import torch
from torch import nn

from dmml.nn.standardised import StandardisedLinear, set_feature_statistics


@pytest.fixture
def statistics():
    return {
        "10": {"mean": [3.0, -200.0, 0.0], "scale": [2.0, 50.0, 1e-3]},
        "20": {"mean": [1.0] * 3, "scale": [4.0] * 3},
    }


def layer_of(statistics):
    model = nn.ModuleDict({"10x": nn.Sequential(StandardisedLinear(3, 5))})
    set_feature_statistics(model, statistics)
    return model["10x"][0]


def test_the_output_is_that_of_a_linear_layer_on_standardised_features(statistics):
    layer = layer_of(statistics)
    x = torch.randn(4, 7, 3) * layer.scale + layer.mean
    expected = nn.functional.linear((x - layer.mean) / layer.scale, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), expected, atol=1e-4, rtol=1e-4)


def test_units_of_the_features_change_neither_output_nor_gradient_step(statistics):
    """The gradient is that of the standardised features, so that no feature is learned faster because of its unit."""
    layer, plain = layer_of(statistics), nn.Linear(3, 5)
    plain.load_state_dict({name: value for name, value in layer.state_dict().items() if name in ("weight", "bias")})
    z = torch.randn(11, 3)
    layer(z * layer.scale + layer.mean).square().sum().backward()
    plain(z).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, plain.weight.grad, atol=1e-2, rtol=1e-4)
    torch.testing.assert_close(layer.bias.grad, plain.bias.grad, atol=1e-3, rtol=1e-4)


def test_a_layer_without_statistics_is_a_plain_linear_layer():
    layer = StandardisedLinear(3, 5)
    x = torch.randn(6, 3)
    torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


def test_each_magnification_gets_its_own_statistics_and_others_stay_unchanged(statistics):
    model = nn.ModuleDict({name: nn.ModuleDict({"linear": StandardisedLinear(3, 5)}) for name in ("10x", "20x", "5x")})
    set_feature_statistics(model, statistics)
    for name in ("10", "20"):
        layer = model[f"{name}x"]["linear"]
        torch.testing.assert_close(layer.mean, torch.tensor(statistics[name]["mean"]))
        torch.testing.assert_close(layer.scale, torch.tensor(statistics[name]["scale"]))
    assert not model["5x"]["linear"].mean.any()


def test_statistics_are_part_of_the_state_but_are_not_parameters(statistics):
    layer = layer_of(statistics)
    assert {"mean", "scale"} <= set(layer.state_dict())
    assert {name for name, _ in layer.named_parameters()} == {"weight", "bias"}
    again = StandardisedLinear(3, 5)
    again.load_state_dict(layer.state_dict())
    x = torch.randn(2, 3)
    assert torch.equal(again(x), layer(x))


def test_the_statistics_are_folded_in_full_precision_under_autocast(statistics):
    layer = layer_of(statistics)
    x = torch.randn(64, 3) * layer.scale + layer.mean
    expected = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(x).float()
    # What is left is the rounding of features of four standard deviations from zero.
    assert (output - expected).abs().max() < 0.15
