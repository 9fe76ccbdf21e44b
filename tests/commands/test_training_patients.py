"""A model is not tested on patients it was trained on, unless that is requested; then the report says so first."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import yaml
from html_page import Page

from dmml.__main__ import main
from dmml.experiment.training_patients import TrainingPatients
from dmml.networks.packing import pack, unpack
from dmml.training.checkpointing.seen_patients import hash_patients

pytestmark = pytest.mark.slow

SPLIT = {"split": {"folds": 3}, "expression": None}


def words(folds, name: str, *more: str, verb: str = "test") -> list[str]:
    """A command line that runs the checkpoint of `fold1` on a config of the fixture."""
    return [verb, "--config", str(folds.root / f"{name}.yaml"), "--ckpt_path", folds.best("fold1"), *more]


@pytest.fixture
def refused(capsys):
    """Runs a command line that must be refused; returns its one line on stderr."""

    def run(argv: list[str]) -> str:
        capsys.readouterr()
        assert main(argv) == 2
        [line] = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
        return line

    return run


def part_of_the_cohort(folds, name: str, patients: list[str], renamed=None) -> str:
    """A config of some development patients, under other ids where `renamed` says so; returns its name."""
    table = pd.read_csv(folds.root / "development" / "clinical.csv", dtype=str)
    table = table[table["patient_id"].isin(patients)]
    table["patient_id"] = table["patient_id"].replace(renamed or {})
    table.to_csv(folds.root / f"{name}.csv", index=False)
    folds.config(name, data={"name": name, "clinical": str(folds.root / f"{name}.csv"), "expression": None})
    return name


@pytest.fixture(scope="module")
def parts(folds) -> tuple[list[str], list[str]]:
    """Ids of the 20 patients that the model was fitted on, and of the 10 others."""
    from dmml.cohort.section import read_cohort

    section = yaml.safe_load((folds.root / "fold1.yaml").read_text())["data"]["init_args"]
    partition = read_cohort(section).partition("fit")
    return partition.train + partition.val, partition.test


def test_a_test_without_the_fold_is_refused_and_the_right_fold_is_named(folds, refused):
    line = refused(words(folds, "three_folds"))
    assert "10 of the 10 patients to test were in the training or inner validation of this model" in line
    assert len(re.findall(r"SIM0-D\d{4}", line)) == 3
    assert "fold 0 of data.split is tested, since no --data.fold was typed: give --data.fold 1" in line
    assert "--allow-training-patients" in line
    assert not (folds.run("fold1") / "test" / "development_fold0").exists()


def test_the_training_cohort_without_its_split_is_refused(folds, refused):
    line = refused(words(folds, "whole_cohort"))
    assert "20 of the 30 patients to test" in line
    assert "the config names no split, so all patients are tested" in line
    assert "--data.fold 1, which it was trained without" in line


def test_the_checkpoint_of_another_fold_is_refused(folds, refused):
    line = refused(words(folds, "three_folds", "--data.fold", "2"))
    assert "10 of the 10 patients to test" in line
    assert "fold 2 of data.split is tested: give --data.fold 1" in line


def test_a_wrong_fold_in_the_config_is_stated_as_the_cause(folds, refused):
    folds.config("fold_two", data=SPLIT | {"fold": 2})
    assert "fold 2 of data.split is tested, as the config says: give --data.fold 1" in refused(words(folds, "fold_two"))


def test_another_split_of_the_same_cohort_is_refused(folds, refused):
    line = refused(words(folds, "three_folds", "--data.split.seed", "5", "--data.fold", "1"))
    assert "the model has seen patients of every fold: give the split that it was trained with" in line


def test_a_cohort_with_some_training_patients_in_it_is_refused(folds, parts, refused):
    seen, unseen = parts
    name = part_of_the_cohort(folds, "some", [*unseen, *seen[:3]])
    line = refused(words(folds, name))
    assert "3 of the 13 patients to test" in line
    assert all(patient in line for patient in seen[:3])


@pytest.mark.parametrize(
    "spell", [str.lower, lambda name: name.replace("-", "."), lambda name: f" {name.replace('-', '_')} "]
)
def test_training_patients_are_recognised_under_another_spelling_of_their_id(folds, parts, refused, spell):
    seen, unseen = parts
    name = part_of_the_cohort(folds, "spelt", [*unseen, *seen[:2]], {patient: spell(patient) for patient in seen[:2]})
    assert "2 of the 12 patients to test" in refused(words(folds, name))


def test_the_correct_fold_and_a_new_cohort_pass(folds, parts, capsys):
    held = folds.config("clean", cohort="held_out", data={"name": "clean", "expression": None})
    for argv, name in (
        (words(folds, "three_folds", "--data.fold", "1"), "development_fold1"),
        (["test", "--config", str(held), "--ckpt_path", folds.best("fold1")], "clean"),
        (words(folds, part_of_the_cohort(folds, "unseen", parts[1])), "unseen"),
    ):
        assert main(argv) == 0
        folder = folds.run("fold1") / "test" / name
        assert "training_patients" not in json.loads((folder / "metrics.json").read_text())
        assert "orders patients by risk" in Page((folder / "report.html").read_text()).text
    printed = capsys.readouterr()
    assert "warning" not in printed.err
    assert "in the training" not in printed.out


def test_with_permission_training_patients_are_counted_first_and_no_conclusion_is_drawn(folds, capsys):
    assert main(words(folds, "whole_cohort", "--allow-training-patients")) == 0
    sentence = "20 of the 30 patients tested were in the training or inner validation of the model"
    printed = capsys.readouterr().out
    assert printed.index(sentence) < printed.index("c_index")
    folder = folds.run("fold1") / "test" / "development"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert next(iter(metrics)) == "training_patients"
    assert (metrics["training_patients"]["value"], metrics["training_patients"]["n"]) == (20, 30)
    assert all({"value", "low", "high", "n", "events"} <= set(entry) for entry in metrics.values())
    page = Page((folder / "report.html").read_text()).check()
    assert page.text.index(sentence) < page.text.index("Metrics with 95 % intervals")
    assert "orders patients by risk" not in page.text
    assert "entirely above 0.5" not in page.text
    assert "fold1 (20 of 30 in training) on development" in page.text


def test_a_prediction_of_training_patients_warns_and_continues(folds, capsys):
    assert main(words(folds, "whole_cohort", verb="predict")) == 0
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert "20 of the 30 patients to predict" in line
    kept = json.loads((folds.run("fold1") / "predict" / "development" / "provenance.json").read_text())
    assert kept["training_patients"] == {"n": 20, "of": 30}


def test_validation_with_another_fold_warns_of_training_patients(folds, capsys):
    argv = words(folds, "three_folds", verb="validate")
    assert main([*argv, "--data.fold", "1"]) == 0
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert "4 of the 4 patients to validate were in the training or inner validation" in line, "the backbone knows them"
    assert "metrics.csv of the fit has cross-fitted ones" in line
    assert main([*argv, "--data.fold", "2"]) == 0
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert "of the 4 patients to validate were in the training or inner validation of this model" in line


def test_inner_validation_patients_are_validated_again_without_a_warning():
    fitted = {"patients": {part: hash_patients([part]) for part in ("train", "val")}}
    assert validated(fitted, "val") == []
    assert validated(fitted, "train") == ["train"]
    assert validated(fitted | {"backbone": {"n_outputs": 3}}, "val") == ["val"]


def validated(fitted: dict, patient: str) -> list[str]:
    """Patients that a validation of one patient warns of."""
    table = SimpleNamespace(patients=pd.DataFrame(index=[patient]))
    data = SimpleNamespace(patients=lambda part: [patient], cohort=SimpleNamespace(clinical=table))
    callback = TrainingPatients("best.ckpt", fitted, allowed=False)
    callback.setup(SimpleNamespace(datamodule=data), None, "validate")
    return callback.seen


def test_results_of_a_checkpoint_that_does_not_record_its_training_patients_say_so(folds, tmp_path, capsys):
    checkpoint = torch.load(folds.best("fold1"), weights_only=True)
    fitted = unpack(checkpoint["hyper_parameters"]["fitted"])
    del fitted["patients"]
    checkpoint["hyper_parameters"]["fitted"] = pack(fitted)
    torch.save(checkpoint, tmp_path / "old.ckpt")
    argv = ["--config", str(folds.root / "whole_cohort.yaml"), "--ckpt_path", "old.ckpt"]
    sentence = "does not record which patients it was trained on"
    assert main(["doctor", *argv]) == 0
    assert sentence in " ".join(capsys.readouterr().out.split())
    assert main(["test", *argv]) == 0
    assert sentence in capsys.readouterr().err
    page = Page((tmp_path / "test" / "development" / "report.html").read_text()).check()
    assert page.text.index(sentence) < page.text.index("Metrics with 95 % intervals")


def test_doctor_counts_the_patients_that_a_test_would_refuse(folds, capsys):
    config = str(folds.root / "whole_cohort.yaml")
    assert main(["doctor", "--config", config, "--ckpt_path", folds.best("fold1")]) == 0
    assert "20 of the 30 patients to test were in its training or inner validation" in " ".join(
        capsys.readouterr().out.split()
    )


def test_only_test_and_predict_accept_the_option(folds, refused):
    config = str(folds.root / "fold1.yaml")
    assert "is for test and predict" in refused(["fit", "--config", config, "--allow-training-patients"])
