"""Contributions of tiles add up to the backbone's logits, and each is the one of the definition."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from batches import DIM, GENES, pad_bag
from fitted_backbones import fitted_backbone, tissue_bag

from dmml.backbone.tile_contributions import PARTS, tile_contributions
from dmml.types import Bag

KINDS = [("survival", True), ("survival", False), ("classification", True)]
fitted = cache(fitted_backbone)


def join(bags: list[Bag]) -> Bag:
    """Join bags of one patient each to one padded bag."""
    n = max(bag.mask.shape[1] for bag in bags)
    padded = [pad_bag(bag, n - bag.mask.shape[1]) for bag in bags]
    tensors = (torch.cat([getattr(bag, name) for bag in padded]) for name in ("features", "position", "mask", "slide"))
    return Bag(*tensors)


def some_patients(seed: int = 11) -> tuple[dict[int, Bag], dict[str, torch.Tensor], torch.Tensor]:
    """Five patients: a typical one, one with two slides, one with one tile, an outlier, and one without 20x tiles."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {10: (30, 25, 1, 20, 15), 20: (80, 60, 3, 40, 1)}
    bags = {
        m: join(
            [tissue_bag(generator, n, f, s) for n, f, s in zip(each, (0.3, -1, 0, 2, 1), (1, 2, 1, 1, 1), strict=True)]
        )
        for m, each in sizes.items()
    }
    bags[10].features[3] += 40.0 * bags[10].mask[3].unsqueeze(-1)
    bags[20].mask[4] = False
    expression = {s: torch.randn(5, len(genes), generator=generator) for s, genes in GENES.items()}
    return bags, expression, torch.tensor([True, False, False, False, True])


@pytest.mark.parametrize(("kind", "with_rna"), KINDS)
def test_the_sum_over_tiles_and_the_constant_are_the_models_parts(kind, with_rna):
    backbone, _ = fitted(kind, with_rna)
    assert all(len(each.directions) for each in backbone.statistics.values())
    assert any(name.endswith("rare") for name in backbone.readouts)
    bags, expression, has_rna = some_patients()
    with torch.no_grad():
        output = backbone(bags, expression, has_rna)
    expected = output.subspaces | {"tissue": output.tissue}
    contributions = tile_contributions(backbone, bags, expression, has_rna)
    for part in PARTS:
        total = sum(tiles.sum(1) for tiles in contributions.tiles[part].values()) + contributions.constant[part]
        torch.testing.assert_close(total, expected[part], atol=2e-4, rtol=1e-4)
        for m, tiles in contributions.tiles[part].items():
            assert not tiles[~bags[m].mask].any()
    assert contributions.tiles["tissue"][10].abs().max() > 1e-3


def test_contributions_to_clipped_columns_are_scaled():
    backbone, _ = fitted("survival", True)
    bags, _, _ = some_patients()
    raw = torch.cat([each["shift"] for each in backbone.slide_statistics(bags).values()], 1)
    readout = backbone.readouts["tissue_shift"]
    beyond = ((raw - readout.mean) / readout.scale).abs() > readout.clip
    assert beyond[3].any()
    assert not beyond[0].any()


def test_tiles_of_a_patient_with_rna_contribute_to_the_tissue_part_alone():
    backbone, _ = fitted("survival", True)
    bags, expression, has_rna = some_patients()
    tiles = tile_contributions(backbone, bags, expression, has_rna).tiles
    for s in ("tumor", "tme"):
        for values in tiles[s].values():
            assert not values[has_rna].any()
    assert tiles["tumor"][10][~has_rna].abs().max() > 1e-4
    assert tiles["tissue"][10][has_rna].abs().max() > 1e-4
    alone = tile_contributions(backbone, bags, {"tumor": expression["tumor"]}, has_rna).tiles
    assert not alone["tumor"][10][has_rna].any()
    assert alone["tme"][10][has_rna].abs().max() > 1e-4


def test_padding_token_order_and_other_patients_of_the_batch_change_no_contribution():
    backbone, _ = fitted("survival", True)
    bags, expression, has_rna = some_patients()
    whole = tile_contributions(backbone, bags, expression, has_rna).tiles
    order = {
        m: torch.randperm(int(bag.mask[1].sum()), generator=torch.Generator().manual_seed(m)) for m, bag in bags.items()
    }
    alone = {}
    for m, bag in bags.items():
        one_bag = Bag(*(getattr(bag, name)[1:2][:, order[m]] for name in ("features", "position", "mask", "slide")))
        alone[m] = pad_bag(one_bag, 7, garbage=float("nan"))
    row = {s: values[1:2] for s, values in expression.items()}
    shuffled = tile_contributions(backbone, alone, row, has_rna[1:2]).tiles
    for part in PARTS:
        for m in bags:
            torch.testing.assert_close(
                shuffled[part][m][0, : len(order[m])], whole[part][m][1, order[m]], atol=1e-5, rtol=1e-4
            )
            assert not shuffled[part][m][0, len(order[m]) :].any()


def test_tiles_are_compared_with_the_mean_training_patient():
    backbone, patients = fitted("survival", True)
    has_rna = torch.zeros(1, dtype=torch.bool)
    totals = []
    for pair in zip(*(each() for each in patients.bags.values()), strict=True):
        bags = dict(zip(patients.bags, pair, strict=True))
        tiles = tile_contributions(backbone, bags, {}, has_rna).tiles["tissue"]
        totals.append(float(sum(values.sum() for values in tiles.values()) / tiles[10].shape[-1]))
    assert abs(np.mean(totals)) < 0.02 * np.std(totals)


def test_each_tile_contributes_as_the_definition_says():
    backbone, _ = fitted("survival", False)
    bags, _, has_rna = some_patients()
    bags = {m: replace(bag) for m, bag in bags.items()}
    tiles = tile_contributions(backbone, bags, {}, has_rna).tiles["tissue"]
    spread = backbone.calibration(has_rna)[1][1, 0, 0].item()
    for m, bag in bags.items():
        expected = spread * slow_predictor(backbone, m, bag, row=1)
        np.testing.assert_allclose(tiles[m][1, : len(expected), 0], expected, atol=2e-5)


def slow_predictor(backbone, m: int, bag: Bag, row: int) -> np.ndarray:
    """One survival predictor (N,), tile by tile in loops and double precision."""
    statistics = backbone.statistics[f"{m}x"]
    mean, scale, centres, directions = (
        getattr(statistics, name).double().numpy() for name in ("mean", "scale", "centres", "directions")
    )
    real = bag.mask[row].numpy()
    x = (bag.features[row].double().numpy()[real] - mean) / scale
    slide = bag.slide[row].numpy()[real]
    n, k, j = len(x), len(centres), len(directions)
    centred = np.stack([x[i] - x[slide == slide[i]].mean(0) for i in range(n)])
    nearest = np.array([((token - centres) ** 2).sum(1).argmin() for token in centred])
    contrast = np.zeros((k, DIM))
    for c in range(k):
        contrast[c] = (centred[nearest == c] - centres[c]).sum(0) / ((nearest == c).sum() + 3)
    z = np.stack([directions @ (centred[i] - centres[nearest[i]] - contrast[nearest[i]]) for i in range(n)])
    z = z / statistics.noise_sd.item()

    first = {10: 0, 20: 1}[m]

    def read(name: str, width: int) -> tuple[np.ndarray, np.ndarray]:
        readout = backbone.readouts[f"slide_{name}"]
        rows = slice(first * width, (first + 1) * width)
        if name == "rare":  # the magnifications may have different numbers of directions
            before = len(backbone.statistics["10x"].directions) * first
            rows = slice(before, before + width)
        return readout.mean.double().numpy()[rows], (readout.weight[:, 2] / readout.scale).double().numpy()[rows]

    added = np.zeros(n)
    shift_mean, shift = read("shift", DIM)
    share_mean, share = read("composition", k)
    contrast_mean, of_contrast = read("contrasts", k * DIM)
    rare_mean, rare = read("rare", j)
    for i in range(n):
        c = nearest[i]
        added[i] += (x[i] - shift_mean) @ shift / n
        added[i] += (share[c] - share_mean @ share) / n
        cluster_part = of_contrast[c * DIM : (c + 1) * DIM]
        added[i] += (centred[i] - centres[c]) @ cluster_part / (
            (nearest == c).sum() + 3
        ) - contrast_mean @ of_contrast / n
        for d in range(j):
            squares = np.sign(z[:, d]) * np.maximum(np.abs(z[:, d]) - 1.5, 0) ** 2
            root = np.sqrt(abs(squares.mean()) + 0.01)
            added[i] += (squares[i] / root - rare_mean[d]) * rare[d] / n
    return added
