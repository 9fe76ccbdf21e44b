"""What a fit and a cross-validation print: dmml's lines, and no warning that a user cannot act on."""

import warnings

import pandas as pd
import pytest
from crossvals import run, write_config

from dmml.__main__ import main
from dmml.training.library_warnings import silence_library_warnings

pytestmark = pytest.mark.slow


@pytest.fixture
def on_a_cluster(tmp_path, monkeypatch):
    """`srun` is on the PATH, as on a login node."""
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text("#!/bin/sh\n")
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", str(srun.parent), prepend=":")


def split_without_a_class(cohort, folder):
    """Two folds whose inner validation patients are all of two grades."""
    grades = (
        pd.read_csv(cohort / "clinical.csv", dtype=str).drop_duplicates("patient_id").set_index("patient_id")["grade"]
    )
    validation = [patient for name in ("G2", "G3") for patient in grades.index[grades == name][:2]]
    rest = [patient for patient in grades.index if patient not in validation]
    folder.mkdir()
    for k in range(2):
        test = rest[k::2]
        parts = {"train": [patient for patient in rest if patient not in test], "val": validation, "test": test}
        table = pd.DataFrame({name: pd.Series(members) for name, members in parts.items()})
        table.to_csv(folder / f"splits_{k}.csv", index=False)
    return folder


def test_a_fit_and_a_cross_validation_print_no_warning_of_a_library(cohort, tmp_path, on_a_cluster, recwarn, capfd):
    task = {"class_path": "Classification", "init_args": {"classes": ["G2", "G3", "G4"]}}
    split = split_without_a_class(cohort, tmp_path / "splits")
    config = write_config(
        tmp_path / "c.yaml", cohort, model={"task": task}, outcome={"label": "grade"}, split=str(split)
    )
    assert main(["fit", "--config", str(config)]) == 0
    checkpoint = str(tmp_path / "runs" / "c" / "checkpoints" / "best.ckpt")
    for verb in ("validate", "test", "predict"):
        assert main([verb, "--config", str(config), "--ckpt_path", checkpoint]) == 0
    run("--config", config, "--models", "teacher,histology_abmil,rna_linear,clinical")
    assert [str(warning.message) for warning in recwarn] == []
    printed = "".join(capfd.readouterr())
    assert "srun" not in printed
    assert "site-packages" not in printed
    messages = [line for line in printed.splitlines() if "the 4 patients to validate" in line]
    assert len(messages) == 1  # the backbone knows these patients: dmml says so itself
    assert "arning" not in printed.replace(messages[0], "")
    crossval = printed[printed.rindex("development: RNA") :].splitlines()
    assert (
        len([line for line in crossval if line.startswith("development")]) == 1 + 2 * 4 + 1
    )  # the last is the heading of the tables
    held = [line for line in printed.splitlines() if "standardised values lie beyond" in line]
    assert len(held) == 3 + 2  # of validate, test and predict, and once in each fold


def test_folds_in_separate_processes_print_nothing_either_if_the_command_is_quiet(cohort, tmp_path, capfd):
    config = write_config(tmp_path / "c.yaml", cohort)
    argv = ["crossval", "--config", str(config), "--models", "clinical", "--jobs", "2", "--out", "out", "-q"]
    assert main(argv) == 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("verb", ["fit", "test"])
def test_a_quiet_run_prints_nothing(cohort, tmp_path, verb, capfd):
    config = write_config(tmp_path / "c.yaml", cohort)
    fit = ["fit", "--config", str(config), "-q"]
    assert main(fit) == 0
    if verb == "test":
        capfd.readouterr()
        checkpoint = str(tmp_path / "runs" / "c" / "checkpoints" / "best.ckpt")
        assert main(["test", "--config", str(config), "--ckpt_path", checkpoint, "-q"]) == 0
    out, err = capfd.readouterr()
    assert out == ""
    assert all("the 4 patients to validate" in line for line in err.splitlines())


def test_any_other_warning_is_still_shown():
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        silence_library_warnings()
        for text in (
            "The `srun` command is available on your system",
            "Checkpoint directory x exists and is not empty.",
        ):
            warnings.warn(text, UserWarning, stacklevel=1)  # the same words, but not Lightning's
        warning = {"message": "The loss is not finite", "category": UserWarning, "filename": "trainer.py", "lineno": 1}
        warnings.warn_explicit(**warning, module="lightning.pytorch.trainer")
        warning["message"] = "Checkpoint directory x exists and is not empty."
        warnings.warn_explicit(**warning, module="lightning.pytorch.callbacks.model_checkpoint")
    assert len(recorded) == 3
