"""The deep part divided among tiles: complete, equal to a slow numeric path integral, and 0 where it must be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dmml.backbone.tile_contributions import tile_programs
from dmml.experiment.predict_slide.answer import read_answer
from dmml.experiment.predict_slide.explain.deep_division import divide_deep_part
from dmml.experiment.predict_slide.explain.explanation import explain
from dmml.experiment.predict_slide.explain.faithfulness_text import deep_part
from dmml.experiment.predict_slide.explain.levels import LEVELS
from dmml.experiment.predict_slide.tile_scores import divide_answer
from dmml.nn.paper.aggregator import PrototypeAggregator
from dmml.types import SUBSPACES

QUICK = replace(LEVELS["full"], orders=19, shares=(0.2, 0.5))
MODELS = [
    ("student", {"with_programs": True}),
    ("student", {"kind": "classification", "with_programs": True}),
    ("student", {"deep_share": None, "aggregator": PrototypeAggregator, "n_merged": 2}),
    ("student", {"deep_share": None, "n_merged": None}),
    ("teacher", {}),
    ("teacher", {"with_programs": True}),
    ("teacher", {"deep_share": None, "kind": "classification"}),
]


@pytest.mark.slow
@pytest.mark.parametrize("slides", [1, 2])
@pytest.mark.parametrize(("name", "changes"), MODELS)
def test_contributions_add_up_to_each_part_of_the_logits(make_model, make_patient, name, changes, slides):
    model, patient = make_model(name, **changes), make_patient(changes.get("kind", "survival"), slides)
    answer, output = read_answer(model, patient)
    divided, explanation = explain(model, patient, answer, output, QUICK)
    assert set(explanation.deep.parts) == {(m, s) for m in (10, 20) for s in SUBSPACES}
    direction = model.task.direction(output.logits)[0]
    tiles = divided.tiles
    for s in SUBSPACES:
        whole = float(sum(output.subspace_logits[m, s] for m in (10, 20))[0] @ direction) / 2
        assert tiles.together[s] == pytest.approx(whole, abs=1e-4)
        gap = sum(explanation.deep.parts[m, s].gap for m in (10, 20))
        assert tiles.undivided[s] == pytest.approx(gap, abs=1e-4)
        assert abs(tiles.undivided[s]) < 0.01
    for (m, _), part in explanation.deep.parts.items():
        assert part.is_complete
        assert abs(part.gap) <= max(0.01 * abs(part.scores.sum() + part.gap), 1e-3)
        assert part.scores.shape == (patient.bags[m].mask.shape[1],)
    assert "add up to the logits" in deep_part(explanation.deep)


def deep_score(model, patient, magnification, subspace, features, direction):
    """The deep part of one subspace, from a pass over the whole network of a patient with other features."""
    bag = replace(patient.bags[magnification], features=features)
    output = model(replace(patient, bags=patient.bags | {magnification: bag}))
    return output.subspace_logits[magnification, subspace][0] @ direction / 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["survival", "classification"])
@pytest.mark.parametrize(("name", "changes"), [("student", {"n_merged": None}), ("teacher", {})])
def test_contributions_are_a_numeric_path_integral_over_the_whole_network(
    make_model, make_patient, name, changes, kind
):
    """Without clusters and without a backbone, nothing jumps, so that the network can be integrated as it is."""
    model, patient = make_model(name, kind, deep_share=None, tissue_specific=False, **changes), make_patient(kind)
    _, output = read_answer(model, patient)
    parts = divide_deep_part(model, patient, output).parts
    direction, n_steps, step = model.task.direction(output.logits)[0], 60, 1e-2
    with torch.no_grad():
        for m, s in ((10, "tumor"), (20, "tme")):
            features = patient.bags[m].features
            start = model.projection[f"{m}x"].linear.mean.expand_as(features)
            for tile in (0, 5):
                # Midpoint rule; the derivative along the tile's own difference, by central differences.
                change = torch.zeros_like(features)
                change[0, tile] = (features - start)[0, tile]
                total = 0.0
                for k in range(n_steps):
                    x = start + (k + 0.5) / n_steps * (features - start)
                    above, below = (
                        deep_score(model, patient, m, s, x + sign * step * change, direction) for sign in (1, -1)
                    )
                    total += float(above - below) / (2 * step) / n_steps
                assert parts[m, s].scores[tile] == pytest.approx(total, abs=2e-4, rel=2e-2)


def test_programs_of_the_backbone_are_divided_exactly(make_model, make_patient):
    model, patient = make_model(with_programs=True), make_patient(slides=2)
    with torch.no_grad():
        output = model(patient)
    for m in (10, 20):
        shares = tile_programs(model.backbone, m, patient.bags[m])
        for s in SUBSPACES:
            assert shares[s].abs().max() > 1e-3
            torch.testing.assert_close(shares[s].sum(1), output.backbone_programs[m, s], atol=1e-4, rtol=1e-4)
    assert tile_programs(make_model().backbone, 10, patient.bags[10]) == {}


def test_the_programs_of_the_backbone_are_part_of_the_contributions(make_model, make_patient):
    """With the deep tokens cut off, the deep part is linear in the backbone's programs, which are divided exactly."""
    model, patient = make_model(with_programs=True), make_patient()
    for layer in model.program_readout.values():
        layer.weight.zero_()
        layer.bias.zero_()
    _, output = read_answer(model, patient)
    parts = divide_deep_part(model, patient, output).parts
    direction = model.task.direction(output.logits)[0]
    for (m, s), part in parts.items():
        columns = model.heads[f"{m}x"].columns[s]
        to_logit = direction @ model.heads[f"{m}x"].linear.weight[:, columns] @ model.embed[f"{m}x_{s}"].weight
        expected = tile_programs(model.backbone, m, patient.bags[m])[s][0] @ to_logit * model.deep_share / 2
        assert part.scores == pytest.approx(expected.double().numpy(), abs=1e-5)


def test_mean_training_tiles_contribute_nothing(make_model, make_patient):
    model, patient = make_model(deep_share=None), make_patient()
    mean = model.projection["20x"].linear.mean
    patient.bags[20].features[0, 3:] = mean
    _, output = read_answer(model, patient)
    for s in SUBSPACES:
        scores = divide_deep_part(model, patient, output).parts[20, s].scores
        assert np.abs(scores[:3]).min() > 0
        assert scores[3:] == pytest.approx(0, abs=1e-7)


def test_a_deep_part_that_does_not_count_is_not_divided(make_model, make_patient):
    model, patient = make_model(deep_share=0.0), make_patient()
    answer, output = read_answer(model, patient)
    assert divide_deep_part(model, patient, output).parts == {}
    same, explanation = explain(model, patient, answer, output, QUICK)
    assert same.tiles is answer.tiles
    assert deep_part(explanation.deep) == ""
    assert "deep_part" not in explanation.record()


def test_without_a_backbone_only_the_tissue_specific_part_is_divided_exactly(make_model, make_patient):
    model, patient = make_model(deep_share=None), make_patient()
    _, output = read_answer(model, patient)
    tiles = divide_answer(model, patient, output)
    assert not tiles.has_backbone
    assert set(tiles.scores) == {(10, "tissue"), (20, "tissue")}
    assert tiles.undivided["tissue"] == pytest.approx(0, abs=1e-5)
    assert abs(tiles.undivided["tumor"]) > 1e-3
