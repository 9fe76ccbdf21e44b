"""Label-free statistics of a slide: compared with a slow loop, and their invariances."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from batches import make_bag, pad_bag, shuffle_bag

from dmml.backbone.slide_statistics import STATISTICS, SlideStatistics
from dmml.types import Bag

DIM, K, J = 12, 4, 3


@pytest.fixture
def statistics():
    fitted = SlideStatistics(DIM, K, J)
    fitted.mean, fitted.scale = torch.randn(DIM), torch.rand(DIM) + 0.5
    fitted.centres, fitted.noise_sd = torch.randn(K, DIM), torch.tensor(0.8)
    fitted.directions = torch.linalg.qr(torch.randn(DIM, J))[0].T.contiguous()
    return fitted


@pytest.fixture
def bag():
    """Patients with one to three slides, one with a single token, and one without any."""
    return make_bag([30, 17, 1, 0, 25], slides=[3, 1, 1, 1, 2])


def slowly(fitted, features, slide):
    """The definitions in the class's docstring, token by token in float64."""
    mean, scale, centres, directions = (
        values.double().numpy() for values in (fitted.mean, fitted.scale, fitted.centres, fitted.directions)
    )
    if not len(features):
        return {name: np.zeros(size) for name, size in fitted.sizes.items()} | {"rare": np.zeros(J)}
    x = (features - mean) / scale
    centred = np.array([token - x[slide == index].mean(0) for token, index in zip(x, slide, strict=True)])
    nearest = np.array([((token - centres) ** 2).sum(1).argmin() for token in centred])
    contrasts, composition = np.zeros((K, DIM)), np.zeros(K)
    for k in range(K):
        members = centred[nearest == k]
        composition[k] = len(members) / len(x)
        contrasts[k] = sum(token - centres[k] for token in members) / (len(members) + 3) if len(members) else 0
    z = np.array([centred[n] - centres[k] - contrasts[k] for n, k in enumerate(nearest)]) @ directions.T
    z = z / fitted.noise_sd.item()
    mean_square = (np.sign(z) * np.maximum(np.abs(z) - 1.5, 0) ** 2).mean(0)
    rare = mean_square / np.sqrt(np.abs(mean_square) + 0.01)
    return {
        "shift": x.mean(0),
        "composition": composition,
        "contrasts": contrasts.ravel(),
        "rare": rare,
    }


def rows(bag, i):
    """Features and slides of the real tokens of patient i."""
    return bag.features[i][bag.mask[i]].double().numpy(), bag.slide[i][bag.mask[i]].numpy()


def same(a, b, rows_of_b=slice(None), atol=1e-5):
    for name in STATISTICS:
        torch.testing.assert_close(a[name], b[name][rows_of_b], atol=atol, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_the_statistics_are_those_of_a_slow_loop_over_tokens(statistics, bag):
    computed = statistics(bag)
    assert {name: values.shape[1] for name, values in computed.items()} == statistics.sizes
    for i in range(5):
        for name, values in slowly(statistics, *rows(bag, i)).items():
            np.testing.assert_allclose(computed[name][i].numpy(), values, atol=2e-5, err_msg=f"{name} of patient {i}")


def test_features_far_from_zero_lose_no_more_than_their_rounding(statistics, bag):
    """The mean of an encoder's features may be many standard deviations."""
    statistics.mean += 300
    far = replace(bag, features=bag.features + 300)
    computed = statistics(far)
    for i in range(5):
        for name, values in slowly(statistics, *rows(far, i)).items():
            np.testing.assert_allclose(computed[name][i].numpy(), values, atol=3e-3, err_msg=f"{name} of patient {i}")


@pytest.mark.parametrize("garbage", [None, float("nan"), float("inf"), -float("inf")])
def test_padding_changes_no_statistic_whatever_its_content(statistics, bag, garbage):
    same(statistics(pad_bag(bag, 9, garbage)), statistics(bag))


def test_the_order_of_tokens_and_the_numbering_of_slides_change_no_statistic(statistics, bag):
    shuffled = shuffle_bag(bag, torch.randperm(bag.mask.shape[1]))
    same(statistics(shuffled), statistics(bag))
    renamed = replace(bag, slide=torch.where(bag.mask, 2 - bag.slide, 0), n_slides=5)
    same(statistics(renamed), statistics(bag))


def test_other_patients_of_the_batch_change_no_statistic(statistics, bag):
    together = statistics(bag)
    for i in range(5):
        real = bag.mask[i] if bag.mask[i].any() else torch.arange(bag.mask.shape[1]) < 1
        alone = Bag(*(getattr(bag, n)[i : i + 1][:, real] for n in ("features", "position", "mask", "slide")))
        same(statistics(alone), together, slice(i, i + 1))


def test_shifting_a_whole_slide_changes_the_shift_alone(statistics, bag):
    moved = replace(bag, features=bag.features + (bag.slide == 1).unsqueeze(-1) * torch.randn(DIM) * 3)
    before, after = statistics(bag), statistics(moved)
    assert (after["shift"][0] - before["shift"][0]).abs().max() > 0.5
    for name in ("composition", "contrasts", "rare"):
        torch.testing.assert_close(after[name], before[name], atol=1e-4, rtol=1e-4)


def test_slides_of_single_vectors_have_a_shift_and_nothing_else(bag):
    fitted = SlideStatistics(DIM)
    computed = fitted(bag)
    assert [computed[name].shape[1] for name in STATISTICS] == [DIM, 0, 0, 0]
    assert not computed["shift"][3].any()
    torch.testing.assert_close(computed["shift"][1], bag.features[1][bag.mask[1]].mean(0), atol=1e-6, rtol=1e-5)


def test_autocast_does_not_lower_the_precision(statistics, bag):
    expected = statistics(bag)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        same(statistics(bag), expected)


def test_the_rare_statistic_is_computed_from_the_residuals(statistics, bag):
    expected = statistics(bag)["rare"][0]
    alone = Bag(*(getattr(bag, n)[:1] for n in ("features", "position", "mask", "slide")))
    z = statistics.residual(alone) @ statistics.directions.T / statistics.noise_sd
    square = (z.sign() * (z.abs() - 1.5).clamp_min(0).square()).mean(0)
    far_out = square / (square.abs() + 0.01).sqrt()
    torch.testing.assert_close(far_out, expected, atol=1e-5, rtol=1e-4)
