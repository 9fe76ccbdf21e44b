"""What a model's checkpoint records of how its slides were extracted."""

from __future__ import annotations

import json
import shutil

import pytest
from cohorts import data_of, simulated

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
