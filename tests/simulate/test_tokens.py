"""Token features without pixels: the nested grid, and how well each factor can be read from them."""

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_val_predict

from dmml.simulate.tokens import draw_tokens, token_model
from dmml.simulate.truth import FACTOR_NAMES, draw_patients


def test_tiles_are_nested_as_the_store_requires():
    patient = draw_patients("development", 1, seed=0)[0]
    bags, labels = draw_tokens(patient, 0, dim=16, visibility=0.8)
    fine, coarse = bags[20], bags[10]
    assert 60 <= len(fine.features) <= 200
    assert len(fine.features) == (labels > 0).sum()
    assert fine.features.dtype == np.float16
    for position, parent in zip(fine.position, fine.parent, strict=True):
        np.testing.assert_array_equal(np.abs(position - coarse.position[parent]), [56.0, 56.0])
    assert set(fine.parent) == set(range(len(coarse.features)))
    assert len({tuple(p) for p in fine.position}) == len(fine.position)


def test_a_coarse_tile_is_the_mean_of_its_tissue():
    """With the noise averaged out over many slides, 10x features follow the share of tissue under the tile."""
    world = token_model(32)
    shares, projected = [], []
    direction = world.prototypes[10][1] - world.prototypes[10][2]
    for patient in draw_patients("development", 25, seed=0):
        bags, labels = draw_tokens(patient, 0, dim=32, visibility=0.8)
        tumor = labels[(bags[20].position[:, 1] // 112).astype(int), (bags[20].position[:, 0] // 112).astype(int)] == 1
        for k in range(len(bags[10].features)):
            shares.append(tumor[bags[20].parent == k].mean())
        projected.append(bags[10].features.astype(float) @ direction)
    assert np.corrcoef(shares, np.concatenate(projected))[0, 1] > 0.7


def test_only_tumor_tokens_show_the_tumor_factors():
    patients = draw_patients("development", 250, seed=1)
    factors = np.stack([patient.factors for patient in patients])
    means = {1: [], 2: []}
    for patient in patients:
        bags, labels = draw_tokens(patient, 0, dim=32, visibility=1.0)
        tissue = labels[(bags[20].position[:, 1] // 112).astype(int), (bags[20].position[:, 0] // 112).astype(int)]
        for kind, collected in means.items():
            collected.append(bags[20].features[tissue == kind].astype(float).mean(0))

    def r2(kind, factor):
        predicted = cross_val_predict(RidgeCV(np.logspace(-2, 3, 12)), np.array(means[kind]), factors[:, factor], cv=5)
        return r2_score(factors[:, factor], predicted)

    assert r2(1, FACTOR_NAMES.index("pleomorphism")) > 0.8
    assert r2(2, FACTOR_NAMES.index("pleomorphism")) < 0.15
    assert r2(2, FACTOR_NAMES.index("fibrosis")) > 0.8
    assert r2(1, FACTOR_NAMES.index("fibrosis")) < 0.15


@pytest.mark.parametrize("magnification", [10, 20])
def test_the_mean_token_predicts_every_factor_but_not_perfectly(magnification):
    patients = draw_patients("development", 300, seed=2)
    pooled = np.stack([draw_tokens(p, 0, 64, 0.8)[0][magnification].features.astype(float).mean(0) for p in patients])
    factors = np.stack([patient.factors for patient in patients])
    for k, name in enumerate(FACTOR_NAMES):
        predicted = cross_val_predict(RidgeCV(np.logspace(-2, 3, 12)), pooled, factors[:, k], cv=5)
        assert 0.3 < r2_score(factors[:, k], predicted) < 0.75, name


def test_directions_are_the_same_for_every_seed_and_differ_between_magnifications():
    world = token_model(64)
    assert token_model(64).digest() == world.digest() != token_model(32).digest()
    cosine = np.sum(world.directions[10] * world.directions[20], axis=1) / 1.3**2
    assert np.abs(cosine).max() < 0.5
