"""What `dmml test` reports about another cohort: missing data, shift, and recalibration apart from the headline."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import zarr

from dmml.__main__ import main
from dmml.evaluation.evaluation_result import read_evaluation
from dmml.evaluation.result_folders import find_tests

pytestmark = pytest.mark.slow


def results_of(journey, name, root, **data):
    """Folder of a test of the held-out cohort whose results go to `root`."""
    config = journey.config(name, cohort="held_out", data={"name": name, "covariates": ["age", "sex"], **data})
    argv = [
        "test",
        "--ckpt_path",
        journey.best("teacher"),
        "--config",
        str(config),
        "--trainer.default_root_dir",
        str(root),
    ]
    assert main(argv) == 0
    return root / "test" / name


def json_of(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def plain(journey, tmp_path_factory):
    """Results of the unchanged cohort."""
    return results_of(journey, "plain", tmp_path_factory.mktemp("plain"))


@pytest.fixture
def holes(journey, tmp_path):
    """The cohort's RNA without 5 patients and 30 genes; which genes went."""
    table = pd.read_parquet(journey.root / "held_out" / "expression.parquet")
    genes = [name for name in table.columns if name != "patient_id"]
    removed_genes = genes[::100][:30]
    table.drop(columns=removed_genes).iloc[5:].to_parquet(tmp_path / "holes.parquet")
    return {"path": str(tmp_path / "holes.parquet"), "scale": "tpm"}, removed_genes


@pytest.fixture
def moved(journey, tmp_path):
    """The cohort's features with an offset on every one at 20x, as from another scanner."""
    store = tmp_path / "moved.zarr"
    shutil.copytree(journey.root / "held_out" / "features.zarr", store)
    for _, slide in zarr.open_group(store=str(store), mode="r+")["slides"].groups():
        slide["20x/features"][:] = slide["20x/features"][:] + np.float16(1.5)
    return str(store)


def test_missing_data_are_counted_missing_genes_are_named_and_a_shift_is_reported(
    journey, holes, moved, plain, tmp_path
):
    expression, removed_genes = holes
    folder = results_of(journey, "holes", tmp_path / "run", expression=expression, features=moved)
    shift, base = json_of(folder, "shift"), json_of(plain, "shift")
    predictions = pd.read_csv(folder / "predictions.csv")
    assert shift["missing"]["patients without RNA"] == {"n": 5, "of": 20}
    assert shift["missing"]["patients without RNA"]["n"] == (predictions["has_expression"] == 0).sum()
    assert base["missing"]["patients without RNA"] == {"n": 0, "of": 20}
    model = {gene for entry in shift["genes"].values() for gene in entry["imputed"]}
    assert model
    assert model <= set(removed_genes)
    named = [row["name"] for one in shift["expression"].values() for row in one["largest"]]
    assert not set(named) & set(removed_genes)
    for one in (*shift["features"].values(), *shift["expression"].values()):
        assert one["n_training"] > 20
        assert 0 <= one["auc"] <= 1
        assert 0 < one["p"] <= 1
    assert shift["features"]["20x"]["n"] == 20
    assert shift["expression"]["tumor"]["n"] == 15
    assert shift["stain"] == {"reason": "the feature store of the training patients has no thumbnails of their slides"}
    assert any(word.startswith("Stain: not compared (the feature store") for word in shift["words"])
    assert shift["features"]["20x"]["median_shift"] > base["features"]["20x"]["median_shift"] + 1
    assert shift["features"]["20x"]["auc"] > 0.95
    assert shift["features"]["10x"] == base["features"]["10x"]
    groups = {row["column"] for row in shift["subgroups"]}
    assert {"site", "age", "sex"} & groups
    assert all((row["value"] is None) == ("reason" in row) for row in shift["subgroups"])
    assert any("5 of 20 patients without RNA" in word for word in shift["words"])


def test_recalibration_is_reported_apart_and_does_not_change_the_headline(journey, plain, tmp_path):
    folder = results_of(journey, "recalibrated", tmp_path / "run", recalibrate=0.9)
    assert (folder / "metrics.json").read_text() == (plain / "metrics.json").read_text()
    assert not (plain / "recalibrated.json").exists()
    content = json_of(folder, "recalibrated")
    assert content["n_used"] + content["n"] == 20
    if "reason" not in content:
        judged = pd.read_csv(folder / "recalibrated.csv")
        assert len(judged) == content["n"]
    assert json_of(folder, "calibration")["log_rank"]["cut"] == json_of(folder, "context")["median_risk"]
    assert json_of(folder, "calibration")["log_rank"]["cut_from_training"]


def test_a_test_reads_none_of_its_files_back_and_they_hold_the_same_evaluation(journey, tmp_path, monkeypatch):
    def fail(*args):
        raise AssertionError("the predictions are in memory")

    with monkeypatch.context() as patch:
        patch.setattr("dmml.evaluation.evaluation_result.read_predictions", fail)
        folder = results_of(journey, "in_memory", tmp_path / "run", recalibrate=0.5)
    [result] = find_tests([folder])
    evaluation = read_evaluation(result)
    assert evaluation.metrics == json_of(folder, "metrics")
    assert [each.plain() for each in evaluation.calibrations] == [
        each for each in json_of(folder, "calibration")["horizons"].values() if "day" in each
    ]


@pytest.mark.parametrize("share", [0, 1.5])
def test_an_impossible_share_is_refused(journey, tmp_path, share, capsys):
    config = journey.config("no_share", cohort="held_out", data={"recalibrate": share})
    assert main(["test", "--ckpt_path", journey.best("teacher"), "--config", str(config)]) == 2
    assert "recalibrate" in capsys.readouterr().err
