"""The deletion test: areas by their definition, and maps of which it is certain whether they are faithful."""

from __future__ import annotations

import numpy as np
import pytest

from dmml.experiment.predict_slide.explain.deletion import (
    areas,
    deletion,
    deletion_curves,
    order_of,
    random_orders,
    removal_counts,
)
from dmml.experiment.predict_slide.explain.levels import LEVELS

SHARES = LEVELS["default"].shares
N_TILES = 40


def sum_of(values):
    """A model whose output is the mean of one number per kept tile."""
    return lambda kept: {"output": values[kept].mean(axis=1)}


def result_of(map_values, scores, attention=None, is_signed=True, n_orders=19, seed=0):
    random = random_orders(len(map_values), n_orders, seed)
    orders = [random, order_of(map_values)[None]] + ([] if attention is None else [order_of(attention)[None]])
    curves = deletion_curves(scores, np.vstack(orders), SHARES)
    output = curves.values["output"]
    by_attention = None if attention is None else output[n_orders + 1]
    return deletion(curves.shares, output[n_orders], output[:n_orders], by_attention, is_signed)


@pytest.mark.parametrize("is_signed", [True, False])
def test_the_area_is_the_mean_over_the_steps(is_signed):
    rng = np.random.default_rng(0)
    values = rng.normal(size=N_TILES)
    result = result_of(values, sum_of(values), attention=rng.random(N_TILES), is_signed=is_signed)
    order = sorted(range(N_TILES), key=lambda tile: -values[tile])
    total = 0.0
    for share in SHARES:
        kept = order[max(1, round(share * N_TILES)) :]
        fall = values.mean() - sum(values[tile] for tile in kept) / len(kept)
        total += fall if is_signed else abs(fall)
    assert result.area == pytest.approx(total / len(SHARES))
    assert result.curve[0] == pytest.approx(values.mean())


def test_at_least_one_tile_is_removed_and_one_is_left():
    assert removal_counts(5, SHARES).tolist() == [0, 1, 2, 4]
    assert removal_counts(2, SHARES).tolist() == [0, 1]
    assert removal_counts(1000, SHARES).tolist() == [0, 20, 100, 250, 500, 750]


def test_the_model_runs_on_the_tiles_that_are_left():
    seen = []

    def scores(kept):
        seen.append(kept)
        return {"output": np.zeros(len(kept))}

    order = np.array([[3, 1, 4, 0, 2]])
    deletion_curves(scores, order, (0.2, 0.4))
    assert [sorted(kept[0].tolist()) for kept in seen] == [[0, 1, 2, 3, 4], [0, 1, 2, 4], [0, 2, 4]]


def test_a_model_that_reads_one_tile_is_explained_by_the_map_that_names_it():
    def reads_the_seventh(kept):
        return {"output": 2.0 * (kept == 7).any(axis=1)}

    right, wrong = np.zeros(N_TILES), np.zeros(N_TILES)
    right[7], wrong[30] = 1.0, 1.0
    faithful = result_of(right, reads_the_seventh, attention=wrong, n_orders=199)
    assert faithful.is_better_than_random
    assert faithful.area == pytest.approx(2.0)  # gone from the first step on
    # The map that names another tile removes this one first, and then the tiles from 0 on: tile 7 with the third step.
    assert faithful.attention == pytest.approx(2.0 * 3 / 5)
    useless = result_of(wrong, reads_the_seventh, n_orders=199)
    assert not useless.is_better_than_random
    # A random order has removed tile 7 after a step with the probability of the step's share.
    shares = removal_counts(N_TILES, SHARES)[1:] / N_TILES
    assert faithful.random.mean() == pytest.approx(2 * shares.mean(), abs=0.15)


def test_a_reversed_map_is_worse_than_random_and_not_called_better():
    values = np.random.default_rng(1).normal(size=N_TILES)
    result = result_of(-values, sum_of(values))
    assert result.area < result.random.min()
    assert result.p == 1.0
    assert not result.is_better_than_random


def test_useless_maps_are_called_better_as_rarely_as_the_level_says():
    rng, called = np.random.default_rng(2), []
    for seed in range(400):
        values, useless = rng.normal(size=N_TILES), rng.normal(size=N_TILES)
        called.append(result_of(useless, sum_of(values), seed=seed).is_better_than_random)
    assert 0.02 < np.mean(called) < 0.09  # 5 %, with 400 draws


def test_p_counts_the_random_orders_that_reach_the_area():
    random = np.array([[0.0, -1.0], [0.0, -2.0], [0.0, 0.0], [0.0, 1.0]])  # areas 1, 2, 0, −1
    result = deletion(np.array([0, 0.5]), np.array([0.0, -1.0]), random)
    assert result.area == 1.0
    assert result.p == pytest.approx((1 + 2) / 5)
    assert areas(random, is_signed=False).tolist() == [1, 2, 0, 1]
