"""A cohort with nothing but one vector per slide: imported, examined, fitted, tested, cross-validated and reported."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from dmml.__main__ import main
from dmml.networks.packing import unpack
from dmml.store import FeatureStore

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def vectors(cohorts, tmp_path_factory):
    """Stores of the simulated cohorts' mean tokens at 20x, with raw units, gaps, and a second vector of some slides."""
    folder = tmp_path_factory.mktemp("vectors")
    for cohort in ("development", "held_out"):
        store, random = FeatureStore(cohorts.root / cohort / "features.zarr"), np.random.default_rng(0)
        rows = {slide: np.asarray(store.read(slide, 20).features, float) for slide in store.slides()}
        table = pd.DataFrame({slide: vectors.mean(0) for slide, vectors in rows.items()}).T.add_prefix("f")
        table["f0"] = 1e6 * table["f0"]
        table = table.mask(random.random(table.shape) < 0.1, -1.0)
        table = pd.concat([table, table.iloc[:3] + 0.5]).rename_axis("slide_id").reset_index()
        table["os_days"] = 100.0
        table.to_csv(folder / f"{cohort}.csv", index=False)
        words = ["import", str(folder / f"{cohort}.csv"), "--out", str(folder / f"{cohort}.zarr"), "--missing", "-1"]
        assert main(["features", *words]) == 2  # os_days
        assert main(["features", *words, "--columns", "f*"]) == 0
        assert main(["features", "verify", str(folder / f"{cohort}.zarr")]) == 0
        assert main(["features", "list", str(folder / f"{cohort}.zarr")]) == 0
    return folder


def data_of(vectors, cohort="development", **more):
    split = {"split": {"folds": 3, "seed": 0}} if cohort == "development" else {}
    return {"features": str(vectors / f"{cohort}.zarr"), "magnifications": [20], "batch_size": 8, **split, **more}


def test_teacher_and_student_are_trained_tested_and_reported_on_vectors(cohorts, vectors, capsys):
    """The magnification is stated once, in the data section; gaps are filled by training means in every step."""
    teacher = cohorts.config("v_teacher", "SubspaceTeacher", data=data_of(vectors))
    assert main(["doctor", "--config", str(teacher)]) == 0
    printed = capsys.readouterr().out
    assert "blocks" not in printed.replace("nothing blocks", "")
    assert "not in the store" not in printed
    assert main(["fit", "--config", str(teacher)]) == 0
    student = cohorts.config(
        "v_student", "SubspaceStudent", data=data_of(vectors), model={"teacher": cohorts.best("v_teacher")}
    )
    assert main(["fit", "--config", str(student)]) == 0
    assert "padding" not in capsys.readouterr().out
    kept = torch.load(cohorts.best("v_student"), weights_only=True)["hyper_parameters"]
    assert kept["magnifications"] == [20]
    statistics = unpack(kept["fitted"])["feature_statistics"]["20"]
    store = FeatureStore(vectors / "development.zarr")
    assert len(statistics["mean"]) == store.n_features
    assert statistics["scale"][0] > 1e3
    assert np.isfinite(statistics["mean"]).all()

    held_out = cohorts.config("v_held_out", cohort="held_out", data=data_of(vectors, "held_out", expression=None))
    assert main(["test", "--config", str(held_out), "--ckpt_path", cohorts.best("v_student")]) == 0
    folder = cohorts.run("v_student") / "test" / "held_out"
    rows = pd.read_csv(folder / "predictions.csv")
    assert rows["risk"].notna().all()
    assert rows["risk"].nunique() > 2
    assert (folder / "report.html").is_file()
    assert not list((folder / "plots").glob("attention_*"))  # vectors lie nowhere on a slide
    assert main(["report", str(cohorts.run("v_student"))]) == 0

    other = vectors / "other.csv"
    table = pd.read_csv(vectors / "held_out.csv").drop(columns="os_days")
    table[["slide_id", *reversed([name for name in table if name.startswith("f")])]].to_csv(other, index=False)
    assert main(["features", "import", str(other), "--out", str(vectors / "other.zarr")]) == 0
    config = cohorts.config(
        "v_other", cohort="held_out", data=data_of(vectors, "held_out", features=str(vectors / "other.zarr"))
    )
    capsys.readouterr()
    assert main(["test", "--config", str(config), "--ckpt_path", cohorts.best("v_student"), "--overwrite"]) == 2
    assert "other columns than those that the model was trained on" in capsys.readouterr().err


def test_crossval_and_its_baselines_run_on_vectors(cohorts, vectors, tmp_path):
    config = cohorts.config("v_crossval", "SubspaceTeacher", data=data_of(vectors))
    models = "teacher,student,student_undistilled,histology_abmil,histology_mean,early_concat,late_fusion"
    assert main(["crossval", "--config", str(config), "--out", str(tmp_path / "cv"), "--models", models]) == 0
    result = json.loads((tmp_path / "cv" / "crossval.json").read_text())
    assert set(result["models"]) == set(models.split(","))
    rows = pd.read_csv(tmp_path / "cv" / "oof_predictions.csv")
    assert rows["risk"].notna().all()
    assert (rows.groupby("model")["risk"].nunique() > 5).all()


def test_a_student_is_trained_on_vectors_without_rna(cohorts, vectors, tmp_path):
    data = data_of(vectors, expression=None, gene_sets=None)
    config = cohorts.config("v_alone", "SubspaceStudent", data=data)
    out = str(tmp_path / "cv")
    words = ["--models", "student_undistilled,histology_abmil", "--only-fold", "0"]
    assert main(["crossval", "--config", str(config), "--out", out, *words]) == 0


def test_a_teacher_of_other_features_is_refused_in_one_line(cohorts, vectors, capsys):
    data = data_of(vectors) | {"features": str(cohorts.root / "development" / "features.zarr")}
    assert main(["fit", "--config", str(cohorts.config("v_tiles", "SubspaceTeacher", data=data))]) == 0
    model = {"teacher": cohorts.best("v_tiles")}
    config = cohorts.config("v_taught", "SubspaceStudent", model=model, data=data_of(vectors))
    capsys.readouterr()
    assert main(["fit", "--config", str(config)]) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert f"which the teacher {cohorts.best('v_tiles')} is to read: " in line


def test_a_model_of_other_magnifications_is_refused_in_one_line(cohorts, vectors, capsys):
    config = cohorts.config("v_wrong", "SubspaceTeacher", data=data_of(vectors), model={"magnifications": [5, 20]})
    assert main(["fit", "--config", str(config)]) == 2
    assert "model.magnifications: [5, 20], but data.magnifications: [20]" in capsys.readouterr().err
    content = yaml.safe_load(config.read_text())
    content["model"]["init_args"].pop("magnifications")
    config.write_text(yaml.safe_dump(content))
    assert main(["fit", "--config", str(config), "--trainer.fast_dev_run", "true"]) == 0


def test_predict_slide_refuses_models_of_vectors(cohorts, vectors, shared_data, capsys):
    config = cohorts.config("v_slide", "SubspaceStudent", data=data_of(vectors))
    assert main(["fit", "--config", str(config)]) == 0
    slide = str(shared_data / "slides" / "cmu_small_region.svs")
    capsys.readouterr()
    assert main(["predict-slide", slide, "--ckpt_path", cohorts.best("v_slide"), "--out", "answer"]) == 2
    assert "reads vectors of slides (vectors)" in capsys.readouterr().err


def test_the_doctor_does_not_fit_statistics_of_features(cohorts, vectors, monkeypatch):
    """They need a look at all features of all training patients, which is a fit's business."""
    import dmml.data.module

    def refuse(*_, **__):
        raise AssertionError("features were read")

    monkeypatch.setattr(dmml.data.module, "fit_feature_statistics", refuse)
    assert main(["doctor", "--config", str(cohorts.config("v_doctor", "SubspaceTeacher", data=data_of(vectors)))]) == 0
