"""Clusters behind the prototypes of a model: counts, table, maps and sentences; nothing for a model without prototypes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from batches import make_batch, one_patient
from html_page import Page
from models import build
from PIL import Image

from dmml.__main__ import main
from dmml.experiment.predict_slide.answer import plain, read_answer
from dmml.experiment.predict_slide.maps import Thumbnail, tile_maps
from dmml.experiment.predict_slide.prototypes import tile_table
from dmml.experiment.predict_slide.text import prototypes as sentences_on_prototypes
from dmml.nn.aggregator import Aggregated, Aggregator
from dmml.nn.paper.aggregator import PrototypeAggregator

TILE_UM = {10: 224.0, 20: 112.0}
GLASS = np.full((300, 400, 3), 235, np.uint8)
RED, BLUE = (0xD5, 0x5E, 0x00), (0x00, 0x72, 0xB2)


class HalvedTokens(Aggregator):
    """Puts tokens on the left of a patient's median position into the tumor cluster, and leaves out the first token."""

    def forward(self, tokens, bag):
        x = bag.position[..., 0].masked_fill(~bag.mask, torch.nan)
        is_right = x > x.nanmedian(dim=1, keepdim=True).values
        index = torch.where(bag.mask, is_right.long(), -1)
        index[:, 0] = -1
        embeddings, attention = {}, {}
        for i, s in enumerate(("tumor", "tme")):
            weight = (index == i).float()
            attention[s] = weight / weight.sum(1, keepdim=True).clamp_min(1)
            embeddings[s] = (attention[s][..., None] * tokens[s]).sum(1)
        return Aggregated(embeddings, attention, index)


@pytest.fixture(scope="module")
def answered():
    """Batch of one patient with two slides, answer and output of a student with prototypes."""
    torch.manual_seed(0)
    model = build("student", aggregator=HalvedTokens)
    batch = one_patient(make_batch(), 0)
    for bag in batch.bags.values():
        bag.slide[0, bag.slide.shape[1] // 2 :] = 1
    return batch, *read_answer(model, batch)


def test_counts_and_table_are_those_of_the_output(answered):
    batch, answer, output = answered
    slides = [Thumbnail("first", GLASS, 2.0), Thumbnail("second", GLASS, 2.0)]
    table = tile_table(slides, batch, answer.prototypes)
    rows = []
    for m in (10, 20):
        bag = batch.bags[m]
        for i in range(bag.mask.shape[1]):
            if bag.mask[0, i]:
                cluster = {0: "tumor", 1: "tme", -1: None}[int(output.prototypes[m][0, i])]
                x, y = bag.position[0, i].tolist()
                rows.append((("first", "second")[int(bag.slide[0, i])], m, x, y, cluster))
    assert list(table.columns) == ["slide_id", "magnification", "x_um", "y_um", "prototype"]
    assert [tuple(row) for row in table.itertuples(index=False)] == rows
    for m, counts in answer.prototypes.counts.items():
        names = [row[4] for row in rows if row[1] == m]
        assert counts == {"tumor": names.count("tumor"), "tme": names.count("tme"), "none": 1}
    assert plain(answer)["prototypes"]["tiles"]["10x"] == answer.prototypes.counts[10]


def test_padding_and_masked_tokens_are_in_no_table(answered):
    batch, answer, _ = answered
    assert {m: len(cluster) for m, cluster in answer.prototypes.cluster.items()} == {
        m: int(bag.mask.sum()) for m, bag in batch.bags.items()
    }


def test_every_tile_has_the_colour_of_its_cluster_on_the_map_of_its_slide(answered):
    batch, answer, output = answered
    slides = [Thumbnail("first", GLASS, 2.0), Thumbnail("second", GLASS, 2.0)]
    maps = [m for m in tile_maps(slides, batch, output, TILE_UM, None, answer.prototypes) if m.kind == "prototype"]
    assert [m.name for m in maps] == [f"prototypes_{slide}_{m}x" for m in (10, 20) for slide in ("first", "second")]
    for tile_map in maps:
        picture = np.asarray(Image.open(io.BytesIO(tile_map.png())), int)
        assert tuple(RED) in {tuple(pixel) for pixel in picture[-40:].reshape(-1, 3)}
        assert tuple(BLUE) in {tuple(pixel) for pixel in picture[-40:].reshape(-1, 3)}
    share = answer.prototypes.counts[20]["tumor"] / sum(answer.prototypes.counts[20].values())
    assert f"tumor cluster, {100 * share:.0f} % of the patient's tiles" in maps[-1].caption


def test_the_sentences_name_the_shares_and_that_the_names_are_the_model_s(answered):
    _, answer, _ = answered
    sentences = sentences_on_prototypes(answer)
    counts = answer.prototypes.counts[10]
    n = sum(counts.values())
    expected = f"Of the {n} tiles at 10×, {100 * counts['tumor'] / n:.0f} % are in the tumor cluster"
    assert sentences[1].startswith(expected)
    assert "are in neither" in sentences[1]
    assert "Nobody has compared them" in sentences[-1]


def test_the_paper_s_student_gives_its_two_clusters():
    torch.manual_seed(0)
    model = build("student", aggregator=PrototypeAggregator, n_merged=2)
    batch = one_patient(make_batch(fine=(60, 11, 28, 16)), 0)
    answer, output = read_answer(model, batch)
    for m, counts in answer.prototypes.counts.items():
        index = output.prototypes[m][0]
        assert counts == {"tumor": int((index == 0).sum()), "tme": int((index == 1).sum())}
        assert min(counts.values()) > 0
    maps = tile_maps([Thumbnail("a", GLASS, 2.0)], batch, output, TILE_UM, None, answer.prototypes)
    assert {m.name for m in maps if m.kind == "prototype"} == {"prototypes_10x", "prototypes_20x"}


def test_a_model_without_prototypes_has_none():
    batch = one_patient(make_batch(), 0)
    answer, output = read_answer(build("student"), batch)
    assert answer.prototypes is None
    assert "prototypes" not in plain(answer)
    assert sentences_on_prototypes(answer) == []
    assert {m.kind for m in tile_maps([Thumbnail("a", GLASS, 2.0)], batch, output, TILE_UM, None)} == {"attention"}


def with_halved_tokens(models, path, monkeypatch) -> str:
    """The student's checkpoint with an aggregation of a user's own, which has no weights."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    checkpoint = torch.load(models.best("student"), weights_only=True)
    weights = checkpoint["state_dict"]
    checkpoint["state_dict"] = {key: value for key, value in weights.items() if not key.startswith("aggregator.")}
    checkpoint["hyper_parameters"]["aggregator"] = {"class_path": "test_prototypes.HalvedTokens"}
    torch.save(checkpoint, path)
    return str(path)


@pytest.mark.slow
def test_predict_slide_writes_maps_table_and_a_passage(models, tmp_path, monkeypatch):
    path = with_halved_tokens(models, tmp_path / "c.ckpt", monkeypatch)
    assert main(["predict-slide", models.svs, "--ckpt_path", path, "--out", str(tmp_path / "o")]) == 0
    folder = tmp_path / "o" / "cmu_small_region"
    record = json.loads((folder / "prediction.json").read_text())
    table = pd.read_csv(folder / "tiles.csv")
    for m in (10, 20):
        assert (folder / f"prototypes_{m}x.png").is_file()
        of_m = table[table["magnification"] == m]
        of_clusters = of_m["prototype"].fillna("none").value_counts().to_dict()
        assert record["prototypes"]["tiles"][f"{m}x"] == of_clusters
        assert len(of_m) == record["slides"][0]["tiles"][str(m)]
    page = Page((folder / "report.html").read_text())
    assert "The tumor cluster and the TME cluster" in page.text
    assert "tiles.csv" in page.text
