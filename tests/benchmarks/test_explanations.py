"""The benchmark of explanations: its AUC, its findings, and its page, which says what its numbers say."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest


def test_the_auc_counts_pairs_and_is_undefined_with_one_kind_of_tile():
    from explanations import auc

    rng = np.random.default_rng(0)
    region, values = rng.random(30) < 0.4, rng.integers(0, 6, 30).astype(float)
    pairs = [(a > b) + 0.5 * (a == b) for a in values[region] for b in values[~region]]
    assert auc(region, values) == pytest.approx(np.mean(pairs))
    assert np.isnan(auc(np.ones(5, bool), np.arange(5.0)))


def test_slides_with_one_kind_of_tile_are_left_out_of_the_mean():
    from explanations import summarise_regions

    rows = [
        {"slide_id": f"S{i}", "magnification": 10, "subspace": "tumor", "measure": measure, "auc": value + 0.01 * i}
        for i in range(6)
        for measure, value in (("absolute", 0.8), ("signed", 0.6), ("attention", np.nan if i == 5 else 0.5))
    ]
    entry = summarise_regions(pd.DataFrame(rows))["10x_tumor"]
    assert entry["slides"] == 5
    assert entry["absolute"]["value"] == pytest.approx(0.82)
    assert entry["absolute_minus_attention"]["value"] == pytest.approx(0.3)


def test_a_finding_is_one_that_the_interval_excludes_chance():
    from explanations_page import _relation

    assert _relation({"low": 0.51, "high": 0.6}, 0.5) == "better"
    assert _relation({"low": 0.3, "high": 0.49}, 0.5) == "worse"
    assert _relation({"low": 0.4, "high": 0.6}, 0.5) == "no difference that the interval shows"


def test_the_page_is_that_of_the_numbers(repository):
    from explanations_page import page

    folder = repository / "docs" / "results"
    results = json.loads((folder / "explanations.json").read_text())
    assert page(results) == (folder / "explanations.md").read_text()
