"""A line that reads features as standard deviations from the training mean."""

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


def line_of(statistics):
    model = nn.ModuleDict({"10x": nn.Sequential(StandardisedLinear(3, 5))})
    set_feature_statistics(model, statistics)
    return model["10x"][0]


def test_it_is_a_line_on_standardised_features(statistics):
    line = line_of(statistics)
    x = torch.randn(4, 7, 3) * line.scale + line.mean
    expected = nn.functional.linear((x - line.mean) / line.scale, line.weight, line.bias)
    torch.testing.assert_close(line(x), expected, atol=1e-4, rtol=1e-4)


def test_units_of_the_features_change_neither_output_nor_step(statistics):
    """The gradient is that of the standardised features: no feature is learned faster for its unit."""
    line, plain = line_of(statistics), nn.Linear(3, 5)
    plain.load_state_dict({name: value for name, value in line.state_dict().items() if name in ("weight", "bias")})
    z = torch.randn(11, 3)
    line(z * line.scale + line.mean).square().sum().backward()
    plain(z).square().sum().backward()
    torch.testing.assert_close(line.weight.grad, plain.weight.grad, atol=1e-2, rtol=1e-4)
    torch.testing.assert_close(line.bias.grad, plain.bias.grad, atol=1e-3, rtol=1e-4)


def test_before_statistics_are_set_it_is_a_plain_line():
    line = StandardisedLinear(3, 5)
    x = torch.randn(6, 3)
    torch.testing.assert_close(line(x), nn.functional.linear(x, line.weight, line.bias))


def test_each_magnification_has_its_own_statistics_and_others_are_left(statistics):
    model = nn.ModuleDict({name: nn.ModuleDict({"linear": StandardisedLinear(3, 5)}) for name in ("10x", "20x", "5x")})
    set_feature_statistics(model, statistics)
    for name in ("10", "20"):
        line = model[f"{name}x"]["linear"]
        torch.testing.assert_close(line.mean, torch.tensor(statistics[name]["mean"]))
        torch.testing.assert_close(line.scale, torch.tensor(statistics[name]["scale"]))
    assert not model["5x"]["linear"].mean.any()


def test_statistics_stand_in_the_state_and_are_no_parameters(statistics):
    line = line_of(statistics)
    assert {"mean", "scale"} <= set(line.state_dict())
    assert {name for name, _ in line.named_parameters()} == {"weight", "bias"}
    again = StandardisedLinear(3, 5)
    again.load_state_dict(line.state_dict())
    x = torch.randn(2, 3)
    assert torch.equal(again(x), line(x))


def test_the_statistics_are_folded_in_full_precision_under_autocast(statistics):
    line = line_of(statistics)
    x = torch.randn(64, 3) * line.scale + line.mean
    expected = line(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = line(x).float()
    # What is left is the rounding of features of four standard deviations from zero.
    assert (got - expected).abs().max() < 0.15
