"""`dmml crossval` as a whole: files, models, seeds, jobs, collected results, and what it refuses."""

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from crossvals import LIGHT, RecordBatches, parts_in_files, run, write_config
from html_page import Page
from recomputed_crossval import check_every_number

import dmml
from dmml.__main__ import main
from dmml.commands.crossval import command
from dmml.errors import InputError
from dmml.experiment.crossval.models import LINEAR, NEEDS, ON_REQUEST, pairs, possible_models, select_models

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def light(cohort, tmp_path_factory):
    """A config, and the folder of its light models fitted in one process."""
    root = tmp_path_factory.mktemp("light")
    config = write_config(root / "c.yaml", cohort)
    run("--config", config, "--models", LIGHT, "--out", root / "one")
    return config, root / "one"


def result(folder):
    return json.loads((folder / "crossval.json").read_text())


def test_every_model_is_fitted_in_every_fold(whole):
    models = result(whole)["models"]
    plain = {
        "teacher", "student", "clinical", "rna_linear", "rna_network", "histology_mean", "histology_abmil",
        "early_concat", "late_fusion", "student_undistilled",
    }  # fmt: skip
    assert set(models) == plain | {f"{name}+clinical" for name in plain - {"clinical"}}
    for name, metrics in models.items():
        assert {"c_index", "c_index_ipcw", "ibs"} <= set(metrics), name
        for metric, entry in metrics.items():
            assert len(entry["folds"]) == 2
            assert {"mean", "sd", "pooled"} <= set(entry)
            assert set(entry["pooled"]) == {"value", "low", "high"}
            for i, value in enumerate(entry["folds"]):
                assert (value is None) == (f"fold {i}" in entry.get("undefined", {})), (name, metric)


def test_every_number_is_recomputed_from_the_out_of_fold_and_clinical_tables(whole, cohort):
    check_every_number(whole, cohort / "clinical.csv")


def test_risk_groups_on_the_page_are_divided_at_the_training_median_of_each_model(whole):
    for name in result(whole)["models"]:
        fold_folder = whole / "fold_1" / name
        cut = json.loads((fold_folder / "context.json").read_text())["median_risk"]
        if name.endswith("+clinical"):
            inner = pd.read_csv(fold_folder / "inner.csv")
            assert cut == pytest.approx(inner.dropna(subset=["time", "event"])["risk"].median())
        elif (fold_folder / "checkpoints").is_dir():
            kept = torch.load(fold_folder / "checkpoints" / "best.ckpt", weights_only=True)["hyper_parameters"]
            assert cut == kept["fitted"]["median_risk"]
    drawn = {path.name for path in (whole / "plots").glob("*.svg")}
    assert not [name for name in drawn if name.startswith("thirds")]
    assert "risk_groups_student.svg" in drawn


def test_comparisons_are_differences_of_pooled_values_and_one_is_primary(whole):
    content = result(whole)
    assert [(row["a"], row["b"]) for row in content["paired"] if row["primary"]] == [("student", "histology_abmil")]
    for row in content["paired"]:
        a, b = (content["models"][row[side]]["c_index"]["pooled"]["value"] for side in "ab")
        assert row["difference"] == pytest.approx(a - b)
        assert row["low"] <= row["difference"] <= row["high"]
        assert 0 < row["p"] <= 1
        assert ("p_holm" in row) is not row["primary"]
        assert row["p_resampled"] is None or 0 < row["p_resampled"] <= 1
    assert {"teacher", "rna_linear"} <= set(content["added_to_clinical"])


def test_the_command_that_reproduces_a_cross_validation_is_recorded(whole):
    record = json.loads((whole / "provenance.json").read_text())
    config = whole.parent.parent / "both.yaml"
    assert record["command"] == f"dmml crossval --config {config}"
    assert {"dmml", "python", "torch"} <= set(record["versions"])
    assert record["command"] in Page((whole / "report.html").read_text()).check().text
    args = argparse.Namespace(
        config=["a b.yaml"],
        student="s.yaml",
        out=None,
        models="teacher",
        baselines="mcat",
        seeds=2,
        repeats=1,
        cross_fit=True,
    )
    assert command(args) == (
        "dmml crossval --config 'a b.yaml' --student s.yaml --models teacher --baselines mcat --seeds 2 --cross-fit"
    )


def test_a_student_learns_from_the_teacher_of_its_fold_and_the_undistilled_one_from_none(whole):
    for fold in (0, 1):
        folder = whole / f"fold_{fold}"
        checkpoints = {
            name: torch.load(folder / name / "checkpoints" / "best.ckpt", weights_only=True)
            for name in ("student", "student_undistilled", "teacher")
        }
        kept = {name: checkpoint["hyper_parameters"] for name, checkpoint in checkpoints.items()}
        assert kept["student"]["teacher"] == str(folder / "teacher" / "checkpoints" / "best.ckpt")
        assert kept["student"]["task"] == kept["teacher"]["task"]
        assert kept["student_undistilled"]["teacher"] is None
        weights = ("consistency_weight", "program_weight", "decorrelation_weight")
        assert [kept["student_undistilled"][name] for name in weights] == [0, 0, 0], "outcomes alone"
        shapes = [
            {
                part: value.shape
                for part, value in checkpoints[name]["state_dict"].items()
                if not part.startswith("backbone.")  # one is composed of the teacher's, the other fitted to outcomes
            }
            for name in ("student", "student_undistilled")
        ]
        assert shapes[0] == shapes[1], "the same network"
        assert not list(folder.glob(".*"))  # nothing half-written is left


def test_a_finished_cross_validation_is_only_read(whole, capsys):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("done.json")}
    bytes_before = (whole / "crossval.json").read_bytes()
    run("--config", whole.parent.parent / "both.yaml")
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("done.json")} == before
    assert (whole / "crossval.json").read_bytes() == bytes_before
    out = capsys.readouterr().out
    assert "fold 1/2" not in out
    assert "student − histology_abmil *" in out


def test_another_config_or_cohort_in_the_same_folder_is_refused_with_the_difference(whole, cohort, tmp_path):
    out = ("--out", whole)
    other = write_config(tmp_path / "other.yaml", cohort, model={"width": 24})
    with pytest.raises(InputError, match=r"another configuration or cohort \(model.width: 16 before, 24 now\)"):
        run("--config", other, *out)
    table = pd.read_csv(cohort / "clinical.csv")
    table.loc[0, "age"] += 1
    table.to_csv(tmp_path / "clinical.csv", index=False)
    moved = write_config(tmp_path / "moved.yaml", cohort, clinical=str(tmp_path / "clinical.csv"))
    with pytest.raises(InputError, match=r"data\.clinical: .* before"):
        run("--config", moved, *out)
    assert (whole / "crossval.json").is_file()


def test_a_changed_file_of_the_same_name_is_refused(cohort, tmp_path):
    table = pd.read_csv(cohort / "clinical.csv")
    table.to_csv(tmp_path / "clinical.csv", index=False)
    config = write_config(tmp_path / "c.yaml", cohort, clinical=str(tmp_path / "clinical.csv"))
    args = ("--config", config, "--models", "clinical", "--only-fold", 0)
    run(*args)
    table.assign(age=table["age"] + 1).to_csv(tmp_path / "clinical.csv", index=False)
    with pytest.raises(InputError, match="contents of clinical changed"):
        run(*args)
    run(*args, "--overwrite")


def alive(pid):
    """Whether a process is running; a zombie is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are found through /proc")
def test_workers_end_with_a_killed_parent_and_the_rerun_gives_the_same_results(light, tmp_path):
    config, one = light
    args = ("--config", config, "--models", LIGHT, "--out", tmp_path / "killed")
    code = os.environ | {"PYTHONPATH": str(Path(dmml.__file__).parents[1])}
    words = [sys.executable, "-m", "dmml", "crossval", *map(str, args), "--jobs", "2"]
    parent = subprocess.Popen(words, env=code, stdout=subprocess.DEVNULL)
    try:
        assert until(lambda: [*tmp_path.glob("killed/fold_*/.rna_network.part")], 400)
        workers = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        assert len(workers) >= 2
    finally:
        parent.kill()
        parent.wait()
    assert until(lambda: not any(map(alive, workers)), 20)
    run(*args)
    for name in ("crossval.json", "oof_predictions.csv"):
        assert (tmp_path / "killed" / name).read_bytes() == (one / name).read_bytes()
    assert not [path for path in (tmp_path / "killed").rglob(".*")]


def test_a_job_array_gives_the_results_of_a_single_process(light, tmp_path, capsys):
    config, one = light
    run("--config", config, "--models", LIGHT, "--out", "array", "--only-fold", 1)
    capsys.readouterr()
    with pytest.raises(InputError, match=r"no model is finished in all folds \(missing: fold 0\)"):
        run("--config", config, "--models", LIGHT, "--out", "array", "--collect")
    run("--config", config, "--models", "clinical", "--out", "array", "--only-fold", 0)
    run("--config", config, "--models", LIGHT, "--out", "array", "--collect")
    assert "missing: rna_network (fold 0)" in capsys.readouterr().out
    assert set(result(tmp_path / "array")["missing"]) == {"rna_network", "rna_network+clinical"}
    run("--config", config, "--models", LIGHT, "--out", "array", "--only-fold", 0)
    run("--config", config, "--models", LIGHT, "--out", "array", "--collect")
    for name in ("crossval.json", "oof_predictions.csv"):
        assert (tmp_path / "array" / name).read_bytes() == (one / name).read_bytes()


def test_simultaneous_jobs_give_the_results_of_a_single_process_and_log_where_it_does(light, tmp_path, capfd):
    config, one = light
    assert main(["crossval", "--config", str(config), "--models", LIGHT, "--out", "two", "--jobs", "2"]) == 0
    assert (tmp_path / "two" / "crossval.json").read_bytes() == (one / "crossval.json").read_bytes()
    out, err = capfd.readouterr()
    assert err == ""
    lines = ("fold 1/2 · rna_network ·", "fold 2/2 · clinical ·", "development, test: ", "crossval.json", "report.html")
    assert [line for line in lines if line not in out] == []


def test_more_seeds_and_repeats_extend_a_finished_cross_validation(cohort, tmp_path):
    config = write_config(tmp_path / "c.yaml", cohort)
    args = ("--config", config, "--models", "rna_network,rna_linear", "--out", "cv")
    run(*args)
    first = result(tmp_path / "cv")
    stamp = (tmp_path / "cv" / "fold_0" / "rna_network" / "done.json").stat().st_mtime_ns
    run(*args, "--seeds", 2, "--repeats", 2)
    second = result(tmp_path / "cv")
    assert (tmp_path / "cv" / "fold_0" / "rna_network" / "done.json").stat().st_mtime_ns == stamp
    assert [tuple(unit.values()) for unit in second["units"]] == [
        (repeat, fold, seed) for repeat in (0, 1) for fold in (0, 1) for seed in (0, 1)
    ]
    folds = second["models"]["rna_network"]["c_index"]["folds"]
    assert len(folds) == 8
    assert folds[0] == first["models"]["rna_network"]["c_index"]["folds"][0]
    assert folds[0] != folds[1]  # another seed is another network
    linear = second["models"]["rna_linear"]["c_index"]["folds"]
    assert linear[0] == linear[1]
    assert linear[:4:2] != linear[4::2]  # another repeat deals the patients anew
    table = pd.read_csv(tmp_path / "cv" / "oof_predictions.csv")
    assert (table.groupby(["model", "patient_id"]).size() == 4).all()
    check_every_number(tmp_path / "cv", cohort / "clinical.csv")


def test_training_curves_of_every_network_are_shown_and_survival_is_given_on_common_days(whole):
    networks = [name for name in result(whole)["models"] if name not in LINEAR and not name.endswith("+clinical")]
    assert len(networks) >= 7
    for fold, name in itertools.product((0, 1), networks):
        fold_folder = whole / f"fold_{fold}" / name
        table = pd.read_csv(fold_folder / "metrics.csv")
        assert {"epoch", "val/loss", "train/loss"} <= set(table.columns)
        assert not [column for column in table if column.startswith("test")]  # nothing of the outer test patients
        assert json.loads((fold_folder / "context.json").read_text())["chosen_epoch"] in table["epoch"].tolist()
        assert (whole / "plots" / f"training_{name}.svg").is_file()
    columns = [name for name in pd.read_csv(whole / "oof_predictions.csv") if name.startswith("survival_")]
    assert columns == ["survival_365", "survival_1095", "survival_1825"]


def test_networks_of_a_fold_are_trained_on_the_same_batches_and_another_seed_gives_others(cohort, tmp_path):
    callbacks = {"callbacks": [{"class_path": "crossvals.RecordBatches"}], "max_epochs": 2}
    config = write_config(tmp_path / "c.yaml", cohort, trainer=callbacks)
    RecordBatches.fits.clear()
    run("--config", config, "--models", "rna_network,early_concat", "--only-fold", 0, "--seeds", 2)
    one, two, *others = RecordBatches.fits
    assert len(one) >= 4
    assert one == two
    assert others[0] == others[1]
    assert one != others[0]


def test_cohorts_of_rna_alone_or_slides_alone_leave_out_models_of_the_other_input(cohort, tmp_path, capsys):
    run("--config", write_config(tmp_path / "rna.yaml", cohort, features=None))
    assert set(result(tmp_path / "runs" / "rna_crossval")["models"]) == {
        "teacher", "rna_linear", "rna_network", "clinical", "teacher+clinical", "rna_linear+clinical", "rna_network+clinical",
    }  # fmt: skip
    out = capsys.readouterr().out
    assert "teacher − rna_linear *" in out
    assert "left out: student, student_undistilled, histology_mean" in out
    run("--config", write_config(tmp_path / "slides.yaml", cohort, expression=None, covariates=None))
    content = result(tmp_path / "runs" / "slides_crossval")
    assert set(content["models"]) == {"student_undistilled", "histology_mean", "histology_abmil"}
    assert "added_to_clinical" not in content


def test_classes_are_cross_validated_on_published_folds(cohort, tmp_path):
    parts = parts_in_files(cohort, tmp_path / "splits")
    task = {"class_path": "Classification", "init_args": {"class_weights": "balanced"}}
    config = write_config(
        tmp_path / "c.yaml", cohort, model={"task": task}, outcome={"label": "grade"}, split=str(tmp_path / "splits")
    )
    run("--config", config, "--models", "rna_network,rna_linear,clinical")
    content = result(tmp_path / "runs" / "c_crossval")
    assert content["primary_metric"] == "auc"
    metrics = {"auc", "accuracy", "balanced_accuracy", "specificity_macro", "f1_macro", "kappa_quadratic", "ece"}
    assert metrics == set(content["models"]["rna_linear"])
    table = pd.read_csv(tmp_path / "runs" / "c_crossval" / "oof_predictions.csv")
    assert set(table[table["fold"] == 0]["patient_id"]) == set(parts["test"])
    probability = table[[name for name in table if name.startswith("prob_")]]
    np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-5)
    check_every_number(tmp_path / "runs" / "c_crossval", cohort / "clinical.csv")
    with pytest.raises(InputError, match=r"--repeats: .*splits is one division into folds"):
        run("--config", config, "--repeats", 2)


def test_a_students_config_is_used_and_must_name_the_same_patients(cohort, tmp_path):
    config = write_config(tmp_path / "t.yaml", cohort)
    student = yaml.safe_load(write_config(tmp_path / "s.yaml", cohort, batch_size=4).read_text())
    arguments = {
        "width": 16,
        "n_merged": 2,
        "teacher": "runs/none/best.ckpt",
        "task": student["model"]["init_args"]["task"],
    }
    student["model"] = {"class_path": "SubspaceStudent", "init_args": arguments}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(student))
    run("--config", config, "--student", tmp_path / "s.yaml", "--models", "student", "--out", "cv", "--only-fold", 0)
    kept = torch.load(tmp_path / "cv/fold_0/student/checkpoints/best.ckpt", weights_only=True)["hyper_parameters"]
    assert kept["n_merged"] == 2
    student["data"]["init_args"]["split"] = {"folds": 3}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(student))
    with pytest.raises(InputError, match=r"--student: data\.split is .*'folds': 3.* but .*'folds': 2.* in --config"):
        run("--config", config, "--student", tmp_path / "s.yaml")
    with pytest.raises(InputError, match="--student names a SubspaceTeacher"):
        run("--config", config, "--student", config)
    with pytest.raises(InputError, match="--config names a student"):
        run("--config", tmp_path / "s.yaml")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--models", "teecher"], "there is no model 'teecher'"),
        (["--only-fold", "5"], "there is no fold 5; give one of 0, 1"),
        (["--seeds", "0"], "--seeds: 0 is too small"),
        (["--collect", "--out", "nowhere"], "nowhere: holds no cross-validation to collect"),
        (["--collect", "--only-fold", "0"], "leave out --only-fold"),
        (["--jobs", "2", "--only-fold", "0"], "--jobs: 2 processes cannot share the one fold"),
    ],
)
def test_mistakes_are_refused_in_one_line_and_nothing_is_written(cohort, tmp_path, argv, message):
    config = write_config(tmp_path / "c.yaml", cohort)
    with pytest.raises(InputError, match=message) as error:
        run("--config", config, *argv)
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.yaml"]


def test_a_mistake_in_the_model_is_found_before_anything_is_fitted(cohort, tmp_path):
    config = write_config(tmp_path / "c.yaml", cohort, model={"widht": 16})
    with pytest.raises(InputError, match="widht") as error:
        run("--config", config)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("runs/c_crossval/fold_*"))
    config = write_config(tmp_path / "d.yaml", cohort, expression=None)
    with pytest.raises(InputError, match="--models: rna_linear needs RNA"):
        run("--config", config, "--models", "rna_linear")


def test_models_that_a_requested_model_needs_are_fitted_as_well():
    everything = {"RNA", "slides", "covariates"}
    assert select_models(["student"], everything) == ["teacher", "student"]
    assert select_models(["rna_linear+clinical"], everything) == ["rna_linear", "clinical", "rna_linear+clinical"]
    on_request = {f"{name}{suffix}" for name in ON_REQUEST for suffix in ("", "+clinical")}
    assert select_models(None, everything) == [m for m in possible_models(everything) if m not in on_request]
    assert select_models(["transmil"], everything) == ["transmil"]
    assert select_models(["clinical"], everything) == ["clinical"]
    assert set(possible_models({"RNA", "slides"})) == set(NEEDS) - {"clinical"}
    primary, others = pairs(possible_models(everything))
    assert primary == ("student", "histology_abmil")
    assert primary not in others
    assert pairs(["teacher", "rna_linear"])[0] == ("teacher", "rna_linear")
    assert pairs(["clinical"]) == (None, [])


def test_the_seed_of_a_fit_does_not_depend_on_other_models(cohort, tmp_path):
    from dmml.experiment.crossval.plan import CrossvalPlan, FoldRun

    plan = CrossvalPlan(tmp_path, {}, None, {}, {}, {}, None, ["teacher"], [0, 1])
    more = CrossvalPlan(**(asdict(plan) | {"models": ["teacher", "student"], "seeds": 3, "folds": [0, 1, 2]}))
    unit = FoldRun(0, 1, 0)
    assert plan.seed_of(unit, "teacher") == more.seed_of(unit, "teacher")
    seeds = {plan.seed_of(FoldRun(r, f, s), m) for r in (0, 1) for f in (0, 1) for s in (0, 1) for m in NEEDS}
    assert len(seeds) == 8 * len(NEEDS)
