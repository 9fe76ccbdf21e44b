"""Clusters and directions are found where they were planted and not in noise; no pass keeps the tokens in memory."""

import weakref

import numpy as np
import pytest
import torch

from dmml.backbone.fit_statistics import fit_slide_statistics
from dmml.types import Bag

DIM = 24


def bag_of(x, slide=None):
    """Bag of one patient from features (N, D)."""
    x = torch.as_tensor(x, dtype=torch.float32).unsqueeze(0)
    index = torch.zeros(1, x.shape[1], dtype=torch.long) if slide is None else torch.as_tensor(slide).unsqueeze(0)
    return Bag(
        x, torch.zeros(1, x.shape[1], 2), torch.ones(1, x.shape[1], dtype=torch.bool), index, int(index.max()) + 1
    )


def empty(dim=DIM):
    nothing = torch.zeros(1, 1, dtype=torch.long)
    return Bag(torch.zeros(1, 1, dim), torch.zeros(1, 1, 2), nothing.bool(), nothing, 1)


def fit(bags, scale=None, **more):
    tokens = torch.cat([bag.features[0][bag.mask[0]] for bag in bags]).double().numpy()
    mean, sd = (tokens.mean(0), tokens.std(0)) if len(tokens) else (np.zeros(DIM), np.zeros(DIM))
    scale = np.where(sd > 0, sd, 1) if scale is None else scale
    return fit_slide_statistics(lambda: iter(bags), mean, scale, len(bags), **more)


def planted(rng, direction, share=0.05, patients=40, tokens=200, size=5.0):
    """Three tissues and noise; a share of each patient's tokens lies out along a direction, how far and on which side
    being the patient's. → bags, and that factor of each."""
    tissues = rng.standard_normal((3, DIM)) * 2
    factors = rng.standard_normal(patients)
    bags = []
    for factor in factors:
        rare = rng.random((tokens, 1)) < share
        x = tissues[rng.integers(0, 3, tokens)] + rng.standard_normal((tokens, DIM))
        bags.append(bag_of(x + size * factor * rare * direction))
    return bags, factors


@pytest.mark.parametrize("seed", range(3))
def test_a_planted_rare_direction_is_found_and_noise_has_none(seed):
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal(DIM)
    direction /= np.linalg.norm(direction)
    bags, factors = planted(rng, direction)
    fitted = fit(bags, scale=np.ones(DIM), n_clusters=3)
    assert len(fitted.directions) == 1
    assert abs(fitted.directions[0].double().numpy() @ direction) > 0.9
    far_out = np.array([fitted(bag)["rare"][0, 0].item() for bag in bags])
    assert abs(np.corrcoef(far_out, factors)[0, 1]) > 0.8
    assert not len(fit(planted(rng, direction, share=0.0)[0], n_clusters=3).directions)


def test_clusters_are_the_tissues_even_if_slides_are_shifted():
    rng = np.random.default_rng(4)
    tissues = rng.standard_normal((3, DIM)) * 3
    bags, truth = [], []
    for _ in range(20):
        kind = rng.permutation(np.arange(60) % 3)
        truth.append(kind)
        bags.append(bag_of(tissues[kind] + rng.standard_normal(DIM) * 10 + rng.standard_normal((60, DIM)) * 0.5))
    fitted = fit(bags, n_clusters=3)
    for bag, kind in zip(bags[:5], truth[:5], strict=True):
        x = bag.features[0] / fitted.scale
        nearest = torch.cdist(x - x.mean(0), fitted.centres).argmin(1).numpy()
        assert all(len(set(nearest[kind == k])) == 1 for k in range(3))
        assert len(set(nearest)) == 3


@pytest.mark.parametrize("tokens", [3, 60])
@pytest.mark.parametrize("noise", ["normal", "heavy"])
def test_fewer_tokens_than_features_have_no_directions(tokens, noise):
    rng = np.random.default_rng(5)
    draw = rng.standard_normal if noise == "normal" else lambda size: rng.standard_t(3, size)
    bags = [bag_of(draw((tokens, 256))) for _ in range(10)]
    assert not len(fit(bags).directions)


def test_constant_features_do_not_affect_the_estimate_of_the_noise():
    rng = np.random.default_rng(6)
    varies = np.arange(DIM) % 3 == 0
    x = np.maximum(rng.standard_normal((1000, DIM)) - 1, 0) * varies
    fitted = fit([bag_of(part) for part in np.split(x, 20)])
    assert fitted.noise_sd.item() > 0.1
    rare = torch.cat([fitted(bag_of(part))["rare"] for part in np.split(x, 20)])
    assert not rare.numel() or rare.abs().max() < 50


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "bags",
    [
        pytest.param([empty() for _ in range(4)], id="nobody has tokens"),
        pytest.param([bag_of(np.ones((8, DIM)))] * 5, id="all tokens are one"),
        pytest.param([bag_of(np.repeat([np.zeros(DIM), np.ones(DIM)], 10, 0))] * 5, id="two distinct tokens"),
        pytest.param(
            [bag_of(np.random.default_rng(i).standard_normal((3, DIM)), [0, 1, 2]) for i in range(40)],
            id="slides of one vector each",
        ),
        pytest.param(
            [bag_of(np.random.default_rng(i).standard_normal((1, DIM))) for i in range(40)], id="single vectors"
        ),
        pytest.param(
            [empty(), bag_of(np.random.default_rng(0).standard_normal((40, DIM))), empty()], id="one patient has tokens"
        ),
    ],
)
def test_degenerate_tokens_neither_crash_nor_warn(bags):
    fitted = fit(bags)
    for bag in bags:
        assert all(values.isfinite().all() for values in fitted(bag).values())


def test_vectors_that_are_equal_within_slides_have_no_clusters():
    rng = np.random.default_rng(7)
    bags = [bag_of(rng.standard_normal((3, DIM)), [0, 1, 2]) for _ in range(40)]
    assert fit(bags).sizes == {"shift": DIM, "composition": 0, "contrasts": 0, "rare": 0}


def test_a_repeated_fit_is_bit_identical():
    bags, _ = planted(np.random.default_rng(8), np.eye(DIM)[0])
    a, b = fit(bags).state_dict(), fit(bags).state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_no_pass_keeps_the_tokens_in_memory():
    """At most a few of the bags exist at any time."""
    rng = np.random.default_rng(9)
    tokens = rng.standard_normal((40, 50, DIM))
    alive: list[weakref.ref] = []  # no cycle holds a bag, so what is not referred to is gone at once
    most, passes = 0, 0

    def bags():
        nonlocal most, passes
        passes += 1
        for x in tokens:
            bag = bag_of(x)
            alive.append(weakref.ref(bag.features))
            yield bag
            del bag
            most = max(most, sum(each() is not None for each in alive))

    fit_slide_statistics(bags, np.zeros(DIM), np.ones(DIM), 40)
    assert passes >= 2
    assert most <= 3


def test_the_sample_for_clusters_is_bounded(monkeypatch):
    """Its size depends neither on the tokens of the patients nor, beyond a few thousand, on their number."""
    from scipy.cluster import vq

    import dmml.backbone.fit_statistics as module

    seen = []
    original = vq.kmeans2
    monkeypatch.setattr(vq, "kmeans2", lambda data, *a, **k: (seen.append(len(data)), original(data, *a, **k))[1])
    monkeypatch.setattr(module, "CLUSTER_SAMPLE", 1000)
    rng = np.random.default_rng(10)
    fit([bag_of(rng.standard_normal((500, DIM))) for _ in range(10)])
    assert max(seen) == 1000
    seen.clear()
    fit([bag_of(rng.standard_normal((20, DIM))) for _ in range(200)])
    assert 1000 <= max(seen) < 1100


def test_tissues_of_many_features_are_found_in_their_leading_components():
    rng = np.random.default_rng(5)
    tissues, labels, bags = rng.standard_normal((4, 300)) * 0.5, [], []
    for _ in range(20):
        labels.append(rng.integers(0, 4, 150))
        bags.append(bag_of(tissues[labels[-1]] + rng.standard_normal((150, 300))))
    fitted = fit(bags, scale=np.ones(300), n_clusters=4)
    assert fitted.centres.shape == (4, 300)
    for bag, label in zip(bags, labels, strict=True):
        x, slide = fitted.prepare(bag)
        nearest = fitted.assign(x, slide, bag.mask)[1][0].argmax(1).numpy()
        assert len({(a, b) for a, b in zip(label, nearest, strict=True)}) == 4  # each tissue is a cluster of its own
    # The centres are those of all features, not of the components alone.
    error = [np.abs(fitted.centres.numpy() - (t - tissues.mean(0))).mean(1).min() for t in tissues]
    assert max(error) < 0.1
