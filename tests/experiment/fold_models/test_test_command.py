"""`dmml test` and `dmml predict` with the folder of a cross-validation give the mean of its models."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

from dmml.__main__ import main
from dmml.evaluation.metrics import concordance_index

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def crossval(whole, tmp_path_factory):
    return shutil.copytree(whole, tmp_path_factory.mktemp("copy") / "cv")


@pytest.fixture(scope="module")
def elsewhere(cohort, tmp_path_factory):
    """A config of patients whom no fold has seen."""
    held_out = cohort.parent / "held_out"
    section = {
        "clinical": str(held_out / "clinical.csv"),
        "outcome": {"time": "os_days", "event": "os_event", "unit": "days"},
        "expression": str(held_out / "expression.parquet"),
        "features": str(held_out / "features.zarr"),
    }
    path = tmp_path_factory.mktemp("config") / "held_out.yaml"
    path.write_text(yaml.safe_dump({"data": {"class_path": "MultimodalDataModule", "init_args": section}}))
    return str(path)


@pytest.fixture(scope="module")
def tested(crossval, elsewhere):
    assert main(["test", "--config", elsewhere, "--ckpt_path", str(crossval)]) == 0
    return crossval / "test" / "held_out"


def of_fold(crossval, fold, verb="test", model="student"):
    return pd.read_csv(crossval / f"fold_{fold}" / model / verb / "held_out" / "predictions.csv")


def test_the_result_is_the_mean_of_the_folds_models(crossval, tested):
    mean = pd.read_csv(tested / "predictions.csv")
    folds = [of_fold(crossval, fold).set_index("patient_id").loc[mean["patient_id"]] for fold in (0, 1)]
    assert np.allclose(mean["risk"], (folds[0]["risk"].to_numpy() + folds[1]["risk"].to_numpy()) / 2)
    assert np.allclose(mean["sd_risk"], np.std([fold["risk"] for fold in folds], axis=0, ddof=1))


def test_metrics_and_report_are_those_of_the_mean(tested):
    mean, metrics = pd.read_csv(tested / "predictions.csv"), json.loads((tested / "metrics.json").read_text())
    assert metrics["c_index"]["value"] == pytest.approx(concordance_index(mean["time"], mean["event"], mean["risk"]))
    assert (tested / "report.html").is_file()
    assert (tested / "calibration.json").is_file()


def test_the_context_names_every_model(crossval, tested):
    context = json.loads((tested / "context.json").read_text())
    assert [model["checkpoint"] for model in context["models"]] == [
        f"fold_{fold}/student/checkpoints/best.ckpt" for fold in (0, 1)
    ]
    medians = [
        json.loads((crossval / f"fold_{fold}/student/test/held_out/context.json").read_text())["median_risk"]
        for fold in (0, 1)
    ]
    assert context["median_risk"] == pytest.approx(np.mean(medians))
    assert context["run"] == "cv"


def test_another_model_needs_overwrite_or_another_folder(crossval, tested, elsewhere, tmp_path, capsys):
    before = (tested / "predictions.csv").read_bytes()
    words = ["test", "--config", elsewhere, "--ckpt_path", str(crossval), "--crossval-model=teacher"]
    assert main(words) == 2
    assert "holds the result of other models; give --overwrite" in capsys.readouterr().err
    assert (tested / "predictions.csv").read_bytes() == before
    assert main([*words, "--trainer.default_root_dir", str(tmp_path / "of_teachers")]) == 0
    teachers = pd.read_csv(tmp_path / "of_teachers" / "test" / "held_out" / "predictions.csv")
    folds = [
        pd.read_csv(tmp_path / "of_teachers" / f"fold_{k}" / "teacher" / "test" / "held_out" / "predictions.csv")
        for k in (0, 1)
    ]
    assert np.allclose(teachers["risk"], np.mean([fold["risk"] for fold in folds], axis=0))


def test_predict_gives_the_same_risks_without_outcomes(crossval, tested, elsewhere):
    assert main(["predict", "--config", elsewhere, "--ckpt_path", str(crossval)]) == 0
    predicted = pd.read_csv(crossval / "predict" / "held_out" / "predictions.csv")
    assert np.allclose(predicted["risk"], pd.read_csv(tested / "predictions.csv")["risk"])


def test_patients_of_the_cross_validation_are_refused(crossval, cohort, elsewhere, tmp_path, capsys):
    content = yaml.safe_load(open(elsewhere).read().replace("held_out", "development"))
    (tmp_path / "development.yaml").write_text(yaml.safe_dump(content))
    assert main(["test", "--config", str(tmp_path / "development.yaml"), "--ckpt_path", str(crossval)]) == 2
    assert "12 of the 24 patients" in capsys.readouterr().err
    assert not (crossval / "test" / "development").exists()


def test_the_option_needs_the_folder_of_a_cross_validation(elsewhere, tmp_path, capsys):
    words = ["test", "--config", elsewhere, "--ckpt_path", str(tmp_path / "best.ckpt"), "--crossval-model", "teacher"]
    assert main(words) == 2
    assert "--crossval-model: is for the folder of a cross-validation" in capsys.readouterr().err
