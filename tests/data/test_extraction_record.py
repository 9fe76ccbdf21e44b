"""What a model's checkpoint records of how its slides were extracted, and cohorts whose tiles were chosen otherwise."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
from cohorts import data_of, simulated

from dmml.data.encoder_match import describe_other_tiles

EXTRACTION = {"tissue": "colour", "least_tissue": 0.5, "precision": "32"}


@pytest.mark.slow
def test_the_extraction_of_the_training_store_is_among_the_fitted_values(tmp_path_factory, tmp_path):
    folder = simulated(tmp_path_factory)
    store = tmp_path / "features.zarr"
    shutil.copytree(folder / "development" / "features.zarr", store)
    root = json.loads((store / "zarr.json").read_text())
    root["attributes"]["extraction"] = EXTRACTION
    (store / "zarr.json").write_text(json.dumps(root))
    recorded = []
    for features in (str(store), str(folder / "development" / "features.zarr"), None):
        data = data_of(folder, features=features)
        data.setup("fit")
        recorded.append(data.fitted({})["extraction"])
    assert recorded == [EXTRACTION, {}, {}]


@pytest.mark.parametrize(
    ("of_store", "of_model", "expected"),
    [
        (EXTRACTION, EXTRACTION, []),
        (EXTRACTION | {"precision": "bf16"}, EXTRACTION, []),  # the encoder's precision chooses no tiles
        (
            EXTRACTION | {"tissue": "mine:find"},
            EXTRACTION,
            ["by the method mine:find, on the training slides by colour"],
        ),
        (
            EXTRACTION | {"least_tissue": 0.25},
            EXTRACTION,
            ["at least 25 % tissue, on the training slides at least 50 %"],
        ),
        (
            {"tissue": "mine:find", "least_tissue": 0.1},
            EXTRACTION,
            ["mine:find", " and tiles have at least 10 % tissue", "--min-tissue and --roi of the training"],
        ),
        (
            EXTRACTION | {"roi": "regions of each slide"},
            EXTRACTION,
            ["tissue in regions drawn by hand was read, on the training slides all tissue"],
        ),
        (EXTRACTION, EXTRACTION | {"roi": "x"}, ["all tissue was read, on the training slides tissue in regions"]),
        (EXTRACTION | {"roi": "x"}, EXTRACTION | {"roi": "x"}, []),
        (EXTRACTION | {"roi": "x"}, EXTRACTION | {"roi": None}, []),
        ({}, EXTRACTION, []),  # imported features
        (EXTRACTION, None, []),
        (EXTRACTION, EXTRACTION | {"tissue": None}, []),  # cohorts that were trained together differ
    ],
)
def test_other_tiles_than_those_of_the_training_are_described_if_both_choices_are_known(of_store, of_model, expected):
    store = SimpleNamespace(attributes={"extraction": of_store})
    text = describe_other_tiles(store, {"extraction": of_model})
    assert all(part in text for part in expected)
    assert bool(text) == bool(expected)
