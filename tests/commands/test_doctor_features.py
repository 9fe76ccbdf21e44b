"""`dmml doctor` looks into the features: stores with NaN, wrong shapes or overlapping tiles do not pass."""

import json

import numpy as np
import pandas as pd
import pytest

from dmml.__main__ import main
from dmml.experiment.doctor import features as doctor_features
from dmml.store import FeatureStore, SlideFeatures
from dmml.store.slide_files import slide_files

CELLS = np.array([(x, y) for x in range(4) for y in range(4)])


def bags(step=112.0):
    position = (CELLS * step + step / 2).astype(np.float32)
    rng = np.random.default_rng(0)
    return {20: SlideFeatures(rng.normal(size=(16, 4)).astype(np.float16), position)}


@pytest.fixture
def cohort(tmp_path):
    """Twenty patients with a slide each, all of them sound, and the config that names them."""
    store = FeatureStore.create("f.zarr", {"name": "net", "dim": 4}, {20: 0.5})
    ids = [f"P{i:02d}" for i in range(20)]
    for patient in ids:
        store.write(f"{patient}-1", bags(), {"mpp": 0.5})
    pd.DataFrame({"patient_id": ids, "days": np.arange(20) * 100 + 50, "died": [0, 1] * 10}).to_csv(
        "c.csv", index=False
    )
    data = {
        "clinical": "c.csv",
        "outcome": {"time": "days", "event": "died"},
        "features": "f.zarr",
        "magnifications": [20],
    }
    config = {"data": {"class_path": "MultimodalDataModule", "init_args": data}}
    (tmp_path / "c.yaml").write_text(json.dumps(config))
    return store


def unchecked(store, slide, bags):
    store.backend.write_group("slides", slide, slide_files(bags, {"mpp": 0.5}, {}), durable=False)


def doctor(capsys) -> tuple[int, str]:
    code = main(["doctor", "-c", "c.yaml"])
    output = capsys.readouterr()
    return code, " ".join((output.out + output.err).split())


def test_sound_features_pass(cohort, capsys):
    code, output = doctor(capsys)
    assert code == 0
    assert "slides are damaged" not in output
    assert "values of" not in output, "all were checked"


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nan", "1 slides are damaged (P07-1: 20x: 1 tiles hold NaN or infinity, first in row 3)"),
        ("width", "1 slides are damaged (P07-1: 20x: features are (16, 5), not (16, 4))"),
        ("rows", "1 slides are damaged (P07-1: 20x: positions are (15, 2), not (16, 2))"),
        ("undeclared", "1 slides are damaged (P07-1: 40x: is not among the store's magnifications)"),
    ],
)
def test_damaged_features_block_a_run(cohort, capsys, what, message):
    wrong = bags()
    if what == "nan":
        wrong[20].features[3, 1] = np.nan
    elif what == "width":
        wrong[20].features = np.ones((16, 5), np.float16)
    elif what == "rows":
        wrong[20].position = wrong[20].position[:15]
    else:
        wrong[40] = wrong[20]
    unchecked(cohort, "P07-1", wrong)
    code, output = doctor(capsys)
    assert code == 2
    assert message in output


def test_overlapping_tiles_and_zeros_are_reported_and_do_not_block(cohort, capsys):
    cohort.write("P03-1", bags(step=56.0), {"mpp": 0.5})
    empty = bags()
    empty[20].features[:2] = 0
    cohort.write("P04-1", empty, {"mpp": 0.5})
    code, output = doctor(capsys)
    assert code == 0, "a person has to judge them"
    assert "1 slides have impossible tile positions (P03-1: 20x: 16 of 16 tiles of 112 µm overlap another" in output
    assert "1 slides contain unlikely values (P04-1: 20x: 2 tiles hold zeros only" in output


def test_of_a_large_store_the_values_of_some_slides_are_checked_and_the_shapes_of_all(cohort, capsys, monkeypatch):
    monkeypatch.setattr(doctor_features, "READ_BYTES", 16 * 4 * 2 * 5)
    wrong = bags()
    wrong[20].features = np.ones((16, 5), np.float16)
    unchecked(cohort, "P19-1", wrong)
    code, output = doctor(capsys)
    assert code == 2
    assert "P19-1: 20x: features are (16, 5)" in output
    assert "values of 5 of 20 slides were checked; `dmml features verify f.zarr` checks them all" in output
