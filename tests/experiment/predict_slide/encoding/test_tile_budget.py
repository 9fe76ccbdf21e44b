"""The coarse tiles whose fine tiles are encoded represent all tiles in what counts for the answer."""

import json

import numpy as np
import pytest

from dmml.__main__ import main
from dmml.errors import InputError
from dmml.experiment.predict_slide.encoding import tile_budget
from dmml.experiment.predict_slide.encoding.tile_budget import MIN_PARENTS, every_nth
from dmml.experiment.predict_slide.encoding.tile_choice import check_budget

GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("n", "share", "count"),
    [(200, 0.25, 50), (403, 0.25, 101), (40, 0.25, MIN_PARENTS), (10, 0.25, 10), (0, 0.25, 0), (70, 1, 70)],
)
def test_a_share_of_the_tiles_is_chosen_rounded_up_but_enough_of_a_small_slide(n, share, count):
    rows = every_nth(GENERATOR.normal(size=n), share)
    assert len(rows) == count
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
    scores = GENERATOR.normal(size=160)
    order = GENERATOR.permutation(160)
    assert set(scores[every_nth(scores, 0.3)]) == set(scores[order][every_nth(scores[order], 0.3)])


@pytest.mark.parametrize("budget", [0, -0.1, 1.1, 25])
def test_an_impossible_budget_is_refused(budget):
    with pytest.raises(InputError, match=f"--budget {budget}: must be above 0 and at most 1"):
        check_budget(budget)


def predicted(models, out, *options):
    words = [models.svs, "--ckpt_path", models.best("student"), "--out", str(out), *options]
    assert main(["predict-slide", *words]) == 0
    return json.loads((out / "cmu_small_region" / "prediction.json").read_text())


@pytest.mark.slow
def test_an_answer_within_a_budget_reads_fewer_fine_tiles_and_says_so(models, tmp_path, whole_slide, monkeypatch):
    monkeypatch.setattr(tile_budget, "MIN_PARENTS", 1)
    answer = predicted(models, tmp_path / "o", "--budget", "0.25")
    (part,), (whole,) = answer["slides"], whole_slide.record["slides"]
    assert part["tiles"]["10"] == whole["tiles"]["10"]
    assert 0 < part["tiles"]["20"] < 0.6 * whole["tiles"]["20"]
    assert part["tiles_skipped"] == whole["tiles"]["20"] - part["tiles"]["20"]
    assert answer["tiles_chosen"]["budget"] == 0.25
    assert any("were not read, to stay within the budget" in note for note in answer["notes"])
    assert "--budget 0.25" in answer["command"]
    assert 0 < abs(answer["prediction"]["risk"] - whole_slide.record["prediction"]["risk"]) < 1


@pytest.mark.slow
def test_a_budget_changes_nothing_on_a_small_slide(models, tmp_path, whole_slide):
    answer = predicted(models, tmp_path / "o", "--budget", "0.25")
    assert answer["slides"][0]["tiles"] == whole_slide.record["slides"][0]["tiles"]
    assert answer["prediction"] == whole_slide.record["prediction"]
    assert not answer["slides"][0]["tiles_skipped"]
    assert not any("budget" in note for note in answer["notes"])
