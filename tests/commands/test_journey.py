"""From a cohort to a tested student, as a user types it."""

from __future__ import annotations

import json
import shlex
import shutil

import pandas as pd
import pytest
import torch

from dmml.__main__ import main
from dmml.commands.config.preflight import check
from dmml.errors import InputError
from dmml.evaluation.evaluation_result import Evaluation
from dmml.evaluation.metrics import concordance_index
from dmml.evaluation.report.provenance import commands

pytestmark = pytest.mark.slow


def test_a_fit_writes_a_complete_run_folder(journey):
    for name in ("teacher", "student"):
        folder = journey.run(name)
        assert {"config.yaml", "metrics.csv", "provenance.json", "checkpoints"} <= {p.name for p in folder.iterdir()}
        assert list(folder.glob("events.out.tfevents.*"))
        assert {p.name for p in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
        provenance = json.loads((folder / "provenance.json").read_text())
        assert provenance["finished"]
        hashes = {"clinical", "features", "partition"} | ({"expression"} if name == "teacher" else set())
        assert hashes <= set(provenance["hashes"])
        assert provenance["rna"]["scale"] == "tpm"
        assert (provenance["data_seed"], provenance["cohort"]) == (0, "development")
        assert provenance["counts"]["train"]["patients"] > 0


def test_checkpoints_load_safely_and_hold_all_that_inference_needs(journey):
    checkpoint = torch.load(journey.best("student"), weights_only=True)
    hparams = checkpoint["hyper_parameters"]
    assert len(hparams["task"]["init_args"]["edges"]) == 3
    assert hparams["genes"]["tumor"].startswith("strings| ")
    assert hparams["fitted"]["encoder"]["name"] == "simulated"
    assert hparams["fitted"]["median_risk"] < 0
    assert not any("teacher" in name for name in checkpoint["state_dict"])
    teacher = torch.load(journey.best("teacher"), weights_only=True)["hyper_parameters"]
    assert teacher["task"]["init_args"]["edges"] == hparams["task"]["init_args"]["edges"]
    assert "SIM0" not in str(hparams["fitted"]["patients"])  # ids are hashed


def test_fit_accepts_the_command_that_a_report_gives_to_repeat_it(journey, tmp_path):
    run = journey.run("teacher")
    evaluation = Evaluation(tmp_path, run, pd.DataFrame(), {"run": "teacher"})
    fit, report = map(shlex.split, commands([evaluation]))
    request = check(fit[1:])
    assert request.config["trainer"]["default_root_dir"] == f"{run}_again"
    assert report == ["dmml", "report", str(run)]
    with pytest.raises(InputError, match="finished"):
        check([word for word in fit[1:] if word not in ("--trainer.default_root_dir", f"{run}_again")])


def test_a_student_is_tested_after_the_training_files_were_deleted(journey, tmp_path):
    lonely = tmp_path / "elsewhere"
    shutil.copytree(journey.root / "held_out", lonely / "held_out")
    shutil.copytree(journey.run("student"), lonely / "runs" / "student")
    elsewhere = type(journey)(lonely)
    # No RNA in this cohort, no teacher, no training cohort anywhere near.
    config = elsewhere.config("held_out", cohort="held_out", data={"expression": None})
    assert main(["test", "--ckpt_path", elsewhere.best("student"), "--config", str(config)]) == 0
    out = elsewhere.run("student") / "test" / "held_out"
    predictions = pd.read_csv(out / "predictions.csv")
    clinical = pd.read_csv(lonely / "held_out" / "clinical.csv").drop_duplicates("patient_id").set_index("patient_id")
    joined = predictions.set_index("patient_id").join(clinical)
    assert len(predictions) == predictions["patient_id"].nunique() == 20
    assert (joined["time"] == joined["os_days"]).all()
    assert (predictions["has_expression"] == 0).all()
    assert (predictions["n_tokens_20x"] > 0).all()
    metrics = json.loads((out / "metrics.json").read_text())
    expected = concordance_index(joined["os_days"].to_numpy(), joined["os_event"].to_numpy(), joined["risk"].to_numpy())
    assert metrics["c_index"]["value"] == pytest.approx(expected)
    assert {"value", "low", "high", "n", "events"} <= set(metrics["c_index"])
    assert (out / "report.html").stat().st_size > 10_000
    assert not (elsewhere.run("student") / "test" / "held_out" / "config.yaml").exists()


def test_a_test_on_tiles_that_were_chosen_otherwise_than_in_training_says_so(journey, tmp_path, capsys):
    elsewhere = type(journey)(tmp_path)
    shutil.copytree(journey.root / "held_out", tmp_path / "held_out")
    shutil.copytree(journey.run("student"), elsewhere.run("student"))
    checkpoint = torch.load(elsewhere.best("student"), weights_only=True)
    checkpoint["hyper_parameters"]["fitted"]["extraction"] = {"tissue": "colour", "least_tissue": 0.25}
    torch.save(checkpoint, elsewhere.best("student"))
    attributes = tmp_path / "held_out" / "features.zarr" / "zarr.json"
    root = json.loads(attributes.read_text())
    out = elsewhere.run("student") / "test" / "held_out"
    for share, is_other in ((0.25, False), (0.6, True)):
        root["attributes"]["extraction"] = {"tissue": "colour", "least_tissue": share}
        attributes.write_text(json.dumps(root))
        config = elsewhere.config("held_out", cohort="held_out")
        capsys.readouterr()
        assert main(["test", "--ckpt_path", elsewhere.best("student"), "--config", str(config)]) == 0
        difference = "tiles have at least 60 % tissue, on the training slides at least 25 %"
        assert (f"held_out: {difference}" in capsys.readouterr().err) == is_other
        counts = json.loads((out / "context.json").read_text())["counts"]
        assert counts.get("tiles of this cohort", "").startswith(difference) == is_other
        assert (difference in (out / "report.html").read_text().replace("\N{NO-BREAK SPACE}", " ")) == is_other
        assert main(["doctor", "-c", str(config), "--ckpt_path", elsewhere.best("student")]) == 0
        assert (difference in " ".join(capsys.readouterr().out.split())) == is_other


def test_a_teacher_is_tested_on_patients_without_rna_and_on_a_single_magnification(journey):
    config = journey.config("one", cohort="held_out", data={"magnifications": [10], "expression": None, "name": "one"})
    before = (journey.run("teacher") / "config.yaml").read_bytes()
    assert main(["test", "--ckpt_path", journey.best("teacher"), "--config", str(config)]) == 0
    predictions = pd.read_csv(journey.run("teacher") / "test" / "one" / "predictions.csv")
    assert (predictions["n_tokens_20x"] == 0).all()
    assert predictions["risk"].notna().all()
    assert (journey.run("teacher") / "config.yaml").read_bytes() == before


def test_a_prediction_needs_no_outcome(journey):
    config = journey.config("unknown", cohort="held_out", data={"outcome": None, "name": "unknown"})
    assert main(["predict", "--ckpt_path", journey.best("student"), "--config", str(config)]) == 0
    table = pd.read_csv(journey.run("student") / "predict" / "unknown" / "predictions.csv")
    assert len(table) == 20
    assert "time" not in table


def test_validation_uses_the_inner_validation_patients(journey, capsys):
    config = journey.config("validate")
    assert main(["validate", "--ckpt_path", journey.best("student"), "--config", str(config)]) == 0
    assert "val/loss" in capsys.readouterr().out


def test_a_report_compares_runs_on_the_same_patients(journey, tmp_path):
    config = journey.config("held", cohort="held_out")
    for name in ("teacher", "student"):
        assert main(["test", "--ckpt_path", journey.best(name), "--config", str(config)]) == 0
    out = tmp_path / "both.html"
    assert main(["report", str(journey.run("teacher")), str(journey.run("student")), "--out", str(out)]) == 0
    page = out.read_text()
    assert "teacher" in page
    assert "student" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_a_finished_run_is_not_overwritten(journey, capsys):
    config = journey.root / "teacher.yaml"
    before = (journey.run("teacher") / "checkpoints" / "best.ckpt").read_bytes()
    assert main(["fit", "--config", str(config)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (journey.run("teacher") / "checkpoints" / "best.ckpt").read_bytes() == before


def test_a_classification_runs_from_features_to_metrics(cohorts):
    task = {"class_path": "Classification", "init_args": {"classes": ["G2", "G3", "G4"], "class_weights": "balanced"}}
    config = cohorts.config("grade", "SubspaceTeacher", outcome={"label": "grade"}, model={"task": task})
    assert main(["fit", "--config", str(config)]) == 0
    held = cohorts.config("grade_held", cohort="held_out", outcome={"label": "grade"})
    assert main(["test", "--ckpt_path", cohorts.best("grade"), "--config", str(held)]) == 0
    out = cohorts.run("grade") / "test" / "held_out"
    table = pd.read_csv(out / "predictions.csv")
    assert table[["prob_G2", "prob_G3", "prob_G4"]].sum(axis=1).to_numpy() == pytest.approx(1.0)
    metrics = json.loads((out / "metrics.json").read_text())
    names = ["G2", "G3", "G4"]
    accuracy = (
        table[[f"prob_{n}" for n in names]].to_numpy().argmax(1) == [names.index(x) for x in table["label"]]
    ).mean()
    assert metrics["accuracy"]["value"] == pytest.approx(accuracy)
