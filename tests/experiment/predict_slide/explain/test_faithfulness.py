"""Deletion tests of a network's maps: bags without some tiles, and models of which it is certain what they read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from batches import shuffle_bag
from fitted_backbones import tissue_bag

from dmml.experiment.predict_slide.answer import read_answer
from dmml.experiment.predict_slide.explain.faithfulness import deletion_tests, faithfulness_record
from dmml.experiment.predict_slide.explain.faithfulness_text import summary, verdict
from dmml.experiment.predict_slide.explain.levels import LEVELS
from dmml.experiment.predict_slide.explain.tile_subsets import TileSubsets
from dmml.experiment.predict_slide.tile_scores import divide_answer

LEVEL = LEVELS["default"]
MODELS = [("student", "survival"), ("student", "classification"), ("teacher", "survival")]


@pytest.mark.parametrize("slides", [1, 2])
@pytest.mark.parametrize(("name", "kind"), MODELS)
@pytest.mark.parametrize("magnification", [10, 20])
def test_the_scores_of_a_subset_are_those_of_a_bag_without_the_other_tiles(
    make_model, make_patient, name, kind, magnification, slides
):
    model, patient = make_model(name, kind), make_patient(kind, slides)
    with torch.no_grad():
        output = model(patient)
    kept = np.array([[0, 2, 3, 7], [1, 2, 4, 5], [0, 2, 4, 6]])  # with two slides, the last is one of them alone
    scores = TileSubsets(model, patient, output, magnification)(kept)
    direction = model.task.direction(output.logits)[0]
    for i, tiles in enumerate(kept):
        bags = patient.bags | {magnification: shuffle_bag(patient.bags[magnification], torch.from_numpy(tiles))}
        with torch.no_grad():
            alone = model(replace(patient, bags=bags))
        assert scores["all"][i] == pytest.approx(float(alone.logits[0] @ direction), abs=1e-4)
        for part in ("tumor", "tme", "tissue"):
            logits = [alone.tissue_logits[m] if part == "tissue" else alone.subspace_logits[m, part] for m in (10, 20)]
            assert scores[part][i] == pytest.approx(float(sum(logits)[0] @ direction) / 2, abs=1e-4)


def test_a_subset_of_all_tiles_gives_the_answer(make_model, make_patient):
    model, patient = make_model(), make_patient()
    with torch.no_grad():
        output = model(patient)
    whole = TileSubsets(model, patient, output, 20)(np.arange(24)[None])
    assert whole["all"][0] == pytest.approx(float(output.logits[0] @ model.task.direction(output.logits)[0]), abs=1e-5)


def reads_one_tile(make_model, patient, tile):
    """A student with only a tissue-specific part, whose logits are the mean over tiles of gelu of the first feature."""
    model = make_model(deep_share=None)
    for m in (10, 20):
        model.heads[f"{m}x"].linear.weight.zero_()
        model.heads[f"{m}x"].linear.bias.zero_()
        head = model.tissue_heads[f"{m}x"]
        for layer in (head.project, head.pool.score, head.linear):
            layer.weight.zero_()
        head.project.bias.zero_()
        head.project.weight[0, 0] = 1.0
        head.linear.weight[:, 0] = 1.0
        patient.bags[m].features[0, :, 0] = 0.0
    patient.bags[20].features[0, tile, 0] = 50.0
    return model


def test_the_map_of_a_network_that_reads_one_tile_is_faithful_and_attention_is_not(make_model, make_patient):
    patient = make_patient(fine=60)
    model = reads_one_tile(make_model, patient, tile=17)
    _, output = read_answer(model, patient)
    tiles = divide_answer(model, patient, output)
    assert tiles.scores[20, "tissue"].argmax() == 17
    assert np.delete(tiles.scores[20, "tissue"], 17) == pytest.approx(0)
    tested = {each.name: each for each in deletion_tests(model, patient, output, tiles, LEVEL)}
    # At 10x no tile adds anything, so that there is no map of a part; the map of all parts says nothing.
    assert set(tested) == {"contribution_10x", "contribution_20x", "contribution_20x_tissue"} | {
        f"overlay_{m}x_{s}" for m in (10, 20) for s in ("tumor", "tme")
    }
    faithful = tested["contribution_20x_tissue"]
    assert faithful.deletion.is_better_than_random
    assert faithful.deletion.area == pytest.approx(
        50 / 60 / 2, rel=1e-3
    )  # one tile of 60, at one of two magnifications
    assert faithful.deletion.curve[1:] == pytest.approx(0, abs=1e-6)
    assert "better than random" in verdict(faithful)
    for name in ("contribution_10x", "overlay_20x_tumor", "overlay_20x_tme"):
        assert not tested[name].deletion.is_better_than_random, name
        assert "no better than random, so do not rely on it" in verdict(tested[name])
    text = summary(list(tested.values()))
    assert text.startswith("2 of 7 maps are better than random. No better than random: contributions to all parts, 10×")
    record = faithfulness_record(list(tested.values()))
    assert record["contribution_20x_tissue"]["better_than_random"] is True
    assert record["overlay_20x_tme"]["better_than_random"] is False
    assert record["overlay_20x_tme"]["area"] == pytest.approx(0, abs=1e-6)
    assert record["contribution_20x_tissue"]["random"]["orders"] == LEVEL.orders


@pytest.mark.parametrize("kind", ["survival", "classification"])
def test_contributions_of_a_backbone_beat_random_orders_and_their_reverse_does_not(make_model, make_patient, kind):
    model, patient = make_model(kind=kind, deep_share=0.0), make_patient(kind)
    generator = torch.Generator().manual_seed(5)
    patient = replace(patient, bags={m: tissue_bag(generator, n, 0.3) for m, n in ((10, 30), (20, 80))})
    answer, output = read_answer(model, patient)
    tested = deletion_tests(model, patient, output, answer.tiles, LEVEL)
    [whole] = [each for each in tested if each.name == "contribution_20x"]
    assert whole.deletion.is_better_than_random
    assert whole.deletion.attention is not None
    assert not [each for each in tested if each.kind == "attention"]  # the deep part does not count
    reverse = replace(answer.tiles, scores={key: -values for key, values in answer.tiles.scores.items()})
    [useless] = [
        each for each in deletion_tests(model, patient, output, reverse, LEVEL) if each.name == "contribution_20x"
    ]
    assert not useless.deletion.is_better_than_random


def test_one_magnification_is_tested_alone(make_model, make_patient):
    model, patient = make_model(deep_share=None, magnifications=[20]), make_patient()
    patient = replace(patient, bags={20: patient.bags[20]})
    _, output = read_answer(model, patient)
    tested = deletion_tests(model, patient, output, None, LEVEL)
    assert {each.name for each in tested} == {"overlay_20x_tumor", "overlay_20x_tme"}
    assert all(each.deletion is not None for each in tested)


def test_too_few_tiles_are_not_tested_and_the_text_says_so(make_model, make_patient):
    model, patient = make_model(), make_patient(fine=4)
    answer, output = read_answer(model, patient)
    tested = [each for each in deletion_tests(model, patient, output, answer.tiles, LEVEL) if each.magnification == 20]
    assert tested
    assert all(each.deletion is None for each in tested)
    assert "not tested" in verdict(tested[0])
    assert faithfulness_record(tested)["contribution_20x"] == {"tiles": 4, "area": None, "better_than_random": None}
    assert summary(tested).startswith("The maps were not tested")
