"""Colours and classes of tiles for models with and without a backbone and prototypes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from batches import make_batch, one_patient
from models import build

from dmml.experiment.predict_slide.answer import read_answer
from dmml.experiment.predict_slide.prototypes import Prototypes
from dmml.experiment.predict_slide.qupath.layers import MIN_SHARE, tile_layers
from dmml.slides.tiling.grid import DEFAULT_TILE_PX, tile_um
from dmml.types import SUBSPACES

TILE_UM = {m: tile_um(m, DEFAULT_TILE_PX) for m in (10, 20)}


@pytest.fixture(scope="module")
def answered():
    """Batch of one patient with two slides, on the grid of tiles; answer and output of a student without a backbone."""
    torch.manual_seed(0)
    batch = one_patient(make_batch(), 0)
    for m, bag in batch.bags.items():
        n = bag.mask.shape[1]
        cell = torch.stack([torch.arange(n), torch.arange(n) % 3], dim=1)
        bag.position[0] = (cell + 0.5) * TILE_UM[m]
        bag.slide[0, n // 2 :] = 1
    return batch, *read_answer(build("student"), batch)


def with_scores(answer, batch, values):
    """The answer of a model with a backbone whose tumor part adds these numbers to each magnification's tiles."""
    from dmml.experiment.predict_slide.tile_scores import TileScores

    parts = dict.fromkeys(("tumor", "tme", "tissue"), 0.0)
    scores = {(m, "tumor"): values[: int(bag.mask.sum())] for m, bag in batch.bags.items()}
    return replace(answer, tiles=TileScores(0.0, 0.0, scores, parts, parts))


def test_attention_colours_the_tiles_of_a_model_without_a_backbone(answered):
    batch, answer, output = answered
    layers = tile_layers(answer, batch, output, TILE_UM)
    assert {index: [layer.magnification for layer in each] for index, each in layers.items()} == {
        0: [10, 20],
        1: [10, 20],
    }
    for m, bag in batch.bags.items():
        mask = bag.mask[0].numpy()
        both = [layer for each in layers.values() for layer in each if layer.magnification == m]
        assert sum(map(len, both)) == mask.sum()
        for s, name in zip(SUBSPACES, ("tumor", "TME"), strict=True):
            values = np.concatenate([layer.measurements[f"attention, {name}"] for layer in both])
            assert values.mean() == pytest.approx(1)  # in multiples of the average tile
            np.testing.assert_allclose(values, output.attention[m, s][0].numpy()[mask] * mask.sum(), rtol=1e-5)
        for layer in both:
            mean = np.mean(list(layer.measurements.values()), axis=0)
            np.testing.assert_array_equal(layer.class_index == 0, mean > 1)
            assert layer.class_name(-1) == f"{m}x: below average attention"


def test_the_class_of_a_tile_is_the_direction_of_a_strong_contribution(answered):
    batch, answer, output = answered
    n = max(int(bag.mask.sum()) for bag in batch.bags.values())
    values = np.linspace(-1, 1, n)
    for each in tile_layers(with_scores(answer, batch, values), batch, output, TILE_UM).values():
        for layer in each:
            total = layer.measurements["contribution, all parts"]
            assert set(layer.measurements) == {"contribution, all parts", "contribution, tumor"}
            end = np.percentile(np.abs(values[: int(batch.bags[layer.magnification].mask.sum())]), 99)
            expected = [0 if v >= MIN_SHARE * end else 1 if v <= -MIN_SHARE * end else -1 for v in total]
            assert layer.class_index.tolist() == expected
            assert layer.class_name(0) == f"{layer.magnification}x: raises the risk"
            assert layer.class_name(1) == f"{layer.magnification}x: lowers the risk"
            red, blue = layer.colour[:, 0].astype(int), layer.colour[:, 2].astype(int)
            assert (np.sign(red - blue) == np.sign(total))[np.abs(total) > 0.1 * end].all()


def test_no_contribution_at_all_has_little_effect(answered):
    batch, answer, output = answered
    for each in tile_layers(with_scores(answer, batch, np.zeros(1000)), batch, output, TILE_UM).values():
        for layer in each:
            assert set(layer.class_index.tolist()) == {-1}


def test_clusters_are_the_classes_of_a_model_with_prototypes(answered):
    batch, answer, output = answered
    cluster = {m: np.arange(int(bag.mask.sum())) % 3 - 1 for m, bag in batch.bags.items()}
    both = replace(answer, prototypes=Prototypes(cluster))
    for each in tile_layers(both, batch, output, TILE_UM).values():
        for layer in each:
            names = [layer.class_name(index)[5:] for index in layer.class_index.tolist()]
            labels = {"tumor cluster": "tumor", "TME cluster": "tme", "no cluster": "none"}
            assert [labels[name] for name in names] == list(layer.metadata["cluster"])
            colours = {
                name: {tuple(c) for c, n in zip(layer.colour.tolist(), names, strict=True) if n == name}
                for name in labels
            }
            assert colours["tumor cluster"] <= {(0xD5, 0x5E, 0x00)}
            assert colours["TME cluster"] <= {(0x00, 0x72, 0xB2)}
            assert len(set(names)) > 1
    scored = tile_layers(with_scores(both, batch, np.linspace(-1, 1, 1000)), batch, output, TILE_UM)
    assert "cluster" in scored[0][0].metadata  # contributions decide the class, and the cluster is still stated
    assert "risk" in scored[0][0].class_name(0)
