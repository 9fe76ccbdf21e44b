"""A continuous value from the command line: fit, test, report, crossval, doctor, and the errors about it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from html_page import Page

from dmml.__main__ import main
from dmml.cohort.clinical.table import read_clinical
from dmml.cohort.splits.inner_folds import carve_validation

pytestmark = pytest.mark.slow
TASK = {"class_path": "Regression", "init_args": {"name": "score", "unit": "points"}}


class Journey:
    """A folder with two simulated cohorts and a student of the molecular score."""

    def __init__(self, root: Path):
        self.root = root
        self.best = str(root / "runs" / "score" / "checkpoints" / "best.ckpt")

    def config(self, cohort: str, data: dict | None = None, **sections: dict) -> str:
        """Path of a config with the cohort's data section, changed by `data`, and other sections."""
        folder = self.root / cohort
        section = {
            "name": cohort,
            "clinical": str(folder / "clinical.csv"),
            "outcome": {"value": "molecular_score"},
            "expression": str(folder / "expression.parquet"),
            "features": str(folder / "features.zarr"),
        } | (data or {})
        path = self.root / f"{cohort}_{len(list(self.root.glob('*.yaml')))}.yaml"
        path.write_text(
            yaml.safe_dump({"data": {"class_path": "MultimodalDataModule", "init_args": section}} | sections)
        )
        return str(path)

    def student(self, name: str, data: dict | None = None) -> str:
        """Path of a config that fits a student of the score."""
        model = {"class_path": "SubspaceStudent", "init_args": {"width": 8, "task": TASK}}
        trainer = {"default_root_dir": str(self.root / "runs" / name), "max_epochs": 1, "enable_progress_bar": False}
        return self.config("development", data, model=model, trainer=trainer)


@pytest.fixture(scope="module")
def journey(tmp_path_factory) -> Journey:
    root = tmp_path_factory.mktemp("values")
    size = ["--patients", "30", "--held-out", "16", "--dim", "16"]
    assert main(["simulate", str(root), "--features-only", *size]) == 0
    table = pd.read_csv(root / "development" / "clinical.csv")
    table.loc[:1, "molecular_score"] = np.nan  # two patients without a value
    table.to_csv(root / "development" / "clinical.csv", index=False)
    made = Journey(root)
    assert main(["fit", "--config", made.student("score")]) == 0
    return made


def test_the_scale_in_the_checkpoint_is_that_of_the_training_patients_alone(journey):
    content = torch.load(journey.best, weights_only=True)
    task = content["hyper_parameters"]["task"]["init_args"]
    flow = pd.read_csv(journey.root / "development" / "clinical.csv").drop_duplicates("patient_id")
    assert abs(task["mean"] - flow["molecular_score"].mean()) > 1e-6, "inner validation patients do not count"
    clinical = read_clinical(journey.root / "development" / "clinical.csv", outcome={"value": "molecular_score"})
    train, _ = carve_validation(clinical, list(clinical.patients.index))
    values = clinical.patients.loc[train, "value"].dropna()
    assert task["mean"] == pytest.approx(values.mean())
    assert task["sd"] == pytest.approx(values.std(ddof=0))


def test_a_test_states_metrics_in_the_units_of_the_value(journey):
    assert (
        main(["test", "--ckpt_path", journey.best, "--config", journey.config("held_out", {"recalibrate": 0.7})]) == 0
    )
    folder = journey.root / "runs" / "score" / "test" / "held_out"
    table, metrics = pd.read_csv(folder / "predictions.csv"), json.loads((folder / "metrics.json").read_text())
    assert metrics["mae"]["value"] == pytest.approx((table["value"] - table["predicted_value"]).abs().mean())
    measured = pd.read_csv(journey.root / "held_out" / "clinical.csv").drop_duplicates("patient_id")
    assert (
        table.set_index("patient_id")["value"].to_dict()
        == measured.set_index("patient_id")["molecular_score"].to_dict()
    )
    assert "predicted_value" in pd.read_csv(folder / "recalibrated.csv")
    text = Page((folder / "report.html").read_text()).text
    assert "predicts the score with an R² of" in text
    assert "Calibration slope" in text
    assert (folder / "plots" / "agreement.svg").exists()


def test_a_cross_validation_has_the_linear_models_and_their_join_with_covariates(journey):
    config = journey.config(
        "development",
        {"split": {"folds": 2}, "covariates": ["age", "sex"]},
        model={"class_path": "SubspaceTeacher", "init_args": {"width": 8, "task": TASK}},
        trainer={"default_root_dir": str(journey.root / "runs" / "folds"), "max_epochs": 1},
    )
    assert main(["crossval", "--config", config, "--models", "rna_linear,clinical"]) == 0
    folder = journey.root / "runs" / "folds_crossval"
    result = json.loads((folder / "crossval.json").read_text())
    assert result["primary_metric"] == "r2"
    assert {"rna_linear", "clinical", "rna_linear+clinical"} <= set(result["models"])
    assert "Measured and predicted" in Page((folder / "report.html").read_text()).text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign(molecular_score="high"), r"clinical.csv: line 2: 'high' in 'molecular_score' "),
        (
            lambda t: t.assign(molecular_score=4.0),
            r"all \d+ training patients with a known value have 4, so nothing can be",
        ),
        (lambda t: t.assign(molecular_score=[1.0, 2.0] + [np.nan] * (len(t) - 2)), r"known value|no patient for"),
    ],
)
def test_values_that_cannot_be_learned_end_in_one_line(journey, tmp_path, capsys, change, message):
    table = change(pd.read_csv(journey.root / "development" / "clinical.csv"))
    table.to_csv(tmp_path / "clinical.csv", index=False)
    config = journey.student(tmp_path.name, {"clinical": str(tmp_path / "clinical.csv")})
    assert main(["fit", "--config", config]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert pd.Series([error]).str.contains(message, regex=True).all(), error
    assert not (journey.root / "runs" / tmp_path.name / "checkpoints").exists()


def test_doctor_describes_the_values(journey, capsys):
    assert main(["doctor", "--config", journey.student("doctor")]) in (0, 1)
    text = capsys.readouterr().out
    assert "values from " in text
    assert "2 without outcome" in text
