"""Two stores in one folder: each keeps its own list of failures and its own page, and the first keeps the plain names."""

import csv
import os

import numpy as np
import pytest

from dmml.slides.companion_files import companion_prefix
from dmml.slides.extraction.extract import extract
from dmml.slides.importing.import_features import import_features
from dmml.store import FeatureStore

SMALL = {"size": (448, 448), "boxes": ((64, 64, 320, 320),), "levels": (1,)}


def states(path):
    with open(path, newline="", encoding="utf-8") as file:
        return {os.path.basename(row["file"]): row["state"] for row in csv.DictReader(file)}


def test_each_store_keeps_its_own_list(make_slide, small_encoder, tmp_path):
    """A slide that is too coarse for 20x fails in one store and works in the other, in any order of later runs."""
    make_slide("in/fine.tif", **SMALL)
    make_slide("in/coarse.tif", mpp=1.0, **SMALL)
    for _ in range(2):
        first = extract(["in"], "a.zarr", small_encoder)
        second = extract(["in"], "b.zarr", small_encoder, magnifications=[10])
        assert [os.path.basename(first.failures_file), os.path.basename(first.qc)] == ["failures.csv", "qc.html"]
        assert [os.path.basename(second.failures_file), os.path.basename(second.qc)] == ["b.failures.csv", "b.qc.html"]
        assert states("failures.csv") == {"coarse.tif": "too_coarse"}
        assert states("b.failures.csv") == {}
    assert "coarse.tif" in open("qc.html", encoding="utf-8").read()
    assert "coarse.tif" not in open("b.qc.html", encoding="utf-8").read()
    third = extract(["in"], "c.zarr", small_encoder)
    assert os.path.basename(third.failures_file) == "c.failures.csv"


def test_an_import_next_to_another_store_gets_a_separate_list(make_slide, small_encoder, tmp_path):
    import h5py

    make_slide("in/a.tif", **SMALL)
    make_slide("in/no_scale.tif", mpp=None, **SMALL)
    extract(["in"], "a.zarr", small_encoder)
    (tmp_path / "h5").mkdir()
    for name, n in (("good", 4), ("short", 3)):
        with h5py.File(tmp_path / "h5" / f"{name}.h5", "w") as file:
            file["features"], file["coords"] = np.ones((4, 8)), np.array([[0, 0], [512, 0], [0, 512], [512, 512]])[:n]
    done = import_features(["h5"], "b.zarr", encoder="x", mpp=0.25, level0_px=512, patch_px=256)
    assert states(done.failures_file) == {"short.h5": "mismatch"}
    assert states("failures.csv") == {"no_scale.tif": "no_mpp"}


@pytest.mark.parametrize("url", [False, True])
def test_only_further_stores_of_a_folder_prefix_their_files(tmp_path, url):
    folder = f"memory://{tmp_path}" if url else str(tmp_path)
    assert companion_prefix(f"{folder}/a.zarr") == ""
    FeatureStore.create(f"{folder}/a.zarr", {"name": "x", "dim": 4}, {20: 0.5})
    assert companion_prefix(f"{folder}/a.zarr/") == ""
    assert companion_prefix(f"{folder}/b.zarr") == "b."
    assert companion_prefix(f"{folder}/elsewhere/b.zarr") == ""
