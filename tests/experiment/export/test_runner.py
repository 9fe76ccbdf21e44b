"""The runner predicts from a store as dmml does, without torch, lightning and dmml."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from exported_students import DIM, ENCODER

from dmml.data.collate import Collate
from dmml.data.dataset import PatientReader
from dmml.store import FeatureStore

pytestmark = pytest.mark.slow
BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "lightning", "dmml", "pandas", "onnx", "scipy", "matplotlib", "timm"}:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
"""
"""A `sitecustomize` that lets nothing import what the runner does without"""


def run(exported, *argv: object, folder: Path = Path()) -> subprocess.CompletedProcess[str]:
    (folder / "sitecustomize.py").write_text(BLOCKED)
    environment = {**os.environ, "PYTHONPATH": str(folder.resolve())}
    command = [sys.executable, str(exported.folder / "run_model.py"), *map(str, argv)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def by_dmml(exported, store: Path, patients: dict[str, list[str]]) -> dict[str, dict[str, float]]:
    """{patient: columns} by the reader, the collation and the network of `dmml predict`."""
    network = exported.network
    reader = PatientReader(FeatureStore(store), patients, network.magnifications)
    collate = Collate(network.magnifications, list(patients), {}, torch.zeros(len(patients), dtype=torch.bool), {})
    rows = {}
    for patient in patients:
        with torch.no_grad():
            columns = network.task.predictions(network(collate([reader.read(patient)])).logits)
        rows[patient] = {name: float(values[0]) for name, values in columns.items()}
    return rows


def check_table(path: Path, expected: dict[str, dict[str, float]]):
    table = pd.read_csv(path, index_col="patient_id")
    assert list(table.index) == list(expected)
    for patient, columns in expected.items():
        assert list(columns) == [name for name in table.columns if not name.startswith("n_tokens_")]
        np.testing.assert_allclose(table.loc[patient, list(columns)], list(columns.values()), rtol=0, atol=1e-4)


def test_the_block_blocks(survival, store, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(BLOCKED)
    done = subprocess.run(
        [sys.executable, "-c", "import torch"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert b"torch is blocked" in done.stderr


def test_every_slide_of_a_store_is_predicted_and_one_without_tiles_is_left_out_by_name(survival, store, tmp_path):
    done = run(survival, store, "--out", "p.csv")
    assert done.returncode == 0, done.stderr
    assert "bare: left out" in done.stderr
    check_table(Path("p.csv"), by_dmml(survival, store, {s: [s] for s in ("both", "fine", "large")}))


def test_slides_of_a_patient_are_read_together_and_all_outputs_can_be_kept(survival, store):
    patients = {"P1": ["both", "large"], "P2": ["fine"]}
    with Path("patients.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("patient_id", "slide_id"), ("P2", "fine"), ("P1", "both"), ("P1", "large")])
    done = run(survival, store, "P1", "P2", "--patients", "patients.csv", "--details", "details", "--out", "p.csv")
    assert done.returncode == 0, done.stderr
    check_table(Path("p.csv"), by_dmml(survival, store, patients))
    with np.load("details/P1.npz") as details:
        assert len(details["attention_20x_tumor"]) == len(details["position_20x"]) == 31 + 1200
        assert details["slide_20x"].tolist() == [0] * 31 + [1] * 1200


def test_classes_are_predicted_with_their_names(classes, store):
    assert run(classes, store, "large", "--out", "p.csv").returncode == 0
    check_table(Path("p.csv"), by_dmml(classes, store, {"large": ["large"]}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": "cd" * 32}, "encoder's weights is cdcd"),
        ({"name": "another"}, "encoder's name is another"),
        ({"dim": DIM + 1}, f"has {DIM + 1} features per tile"),
        ({"stain_normalization": {"method": "macenko", "target": "built-in"}}, "stains of its tiles"),
    ],
)
def test_features_of_another_encoder_are_refused_in_one_line(survival, change, message):
    FeatureStore.create("other.zarr", ENCODER | change, {10: 1.0, 20: 0.5})
    done = run(survival, "other.zarr", "--out", "p.csv")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert message in done.stderr
    assert not Path("p.csv").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nowhere"], "nowhere: no feature store"),
        (["{store}", "absent"], "no slide 'absent'"),
        (["{store}", "--patients", "absent.csv"], "absent.csv: cannot be read"),
        (["{store}", "--model", "absent.onnx"], "absent.onnx: no such file"),
    ],
)
def test_wrong_input_is_refused_in_one_line(survival, store, argv, message):
    done = run(survival, *(word.format(store=store) for word in argv), "--out", "p.csv")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert message in done.stderr
    assert not Path("p.csv").exists()
