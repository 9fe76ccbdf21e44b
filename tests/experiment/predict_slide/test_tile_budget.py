"""The coarse tiles whose fine tiles are encoded represent all tiles in what counts for the answer."""

import numpy as np
import pytest

from dmml.errors import InputError
from dmml.experiment.predict_slide.tile_budget import check_budget, every_nth

GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize(("n", "share", "chosen"), [(100, 0.25, 25), (10, 0.25, 3), (1, 0.1, 1), (0, 0.25, 0), (7, 1, 7)])
def test_a_share_of_the_tiles_is_chosen_rounded_up(n, share, chosen):
    rows = every_nth(GENERATOR.normal(size=n), share)
    assert len(rows) == chosen
    assert (np.diff(rows) > 0).all()
    assert set(rows) <= set(range(n))


def test_every_quarter_of_the_scores_is_represented_equally():
    scores = GENERATOR.exponential(size=400)
    rows = every_nth(scores, 0.25)
    quarter = np.searchsorted(np.quantile(scores, (0.25, 0.5, 0.75)), scores[rows])
    assert np.bincount(quarter).tolist() == [25, 25, 25, 25]


def test_the_mean_of_the_chosen_scores_is_nearer_than_that_of_random_tiles():
    errors = []
    for _ in range(50):
        scores = GENERATOR.exponential(size=200)
        random = GENERATOR.choice(scores, 50, replace=False)
        errors.append((abs(scores[every_nth(scores, 0.25)].mean() - scores.mean()), abs(random.mean() - scores.mean())))
    systematic, at_random = np.mean(errors, axis=0)
    assert systematic < 0.3 * at_random


def test_the_choice_does_not_depend_on_the_order_of_tiles():
    scores = GENERATOR.normal(size=60)
    order = GENERATOR.permutation(60)
    assert set(scores[every_nth(scores, 0.3)]) == set(scores[order][every_nth(scores[order], 0.3)])


@pytest.mark.parametrize("budget", [0, -0.1, 1.1, 25])
def test_an_impossible_budget_is_refused(budget):
    with pytest.raises(InputError, match=f"--budget {budget}: must be above 0 and at most 1"):
        check_budget(budget)
