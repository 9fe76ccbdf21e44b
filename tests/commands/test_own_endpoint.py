"""Every command supports a user-defined endpoint: the example of docs/extending.md, applied to patients' ages."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from doc_blocks import block_with
from html_page import Page

from dmml.__main__ import main
from dmml.slides.encoders.build import load_encoder

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Journey:
    """A working directory with `my_task.py`, two cohorts, and a fitted student."""

    root: Path

    @property
    def best(self) -> str:
        """The student's best checkpoint."""
        return str(self.root / "runs" / "marker" / "checkpoints" / "best.ckpt")

    def config(self, cohort: str, **more: dict) -> str:
        """Path of a config whose outcome is the patients' age; `more` adds sections."""
        folder = self.root / "cohorts" / cohort
        data = {
            "name": cohort,
            "clinical": str(folder / "clinical.csv"),
            "outcome": {"label": "age"},
            "expression": str(folder / "expression.parquet"),
            "features": str(folder / "features.zarr"),
        } | more.pop("data", {})
        content = {"data": {"class_path": "MultimodalDataModule", "init_args": data}} | more
        path = self.root / f"{cohort}_{len(list(self.root.glob('*.yaml')))}.yaml"
        path.write_text(yaml.safe_dump(content))
        return str(path)


TASK = {"class_path": "my_task.MarkerLevel"}


@pytest.fixture(scope="module")
def journey(tmp_path_factory) -> Journey:
    """The example of the docs as a module, and a student that was fitted with it."""
    root = tmp_path_factory.mktemp("own_endpoint")
    (root / "my_task.py").write_text(block_with("docs/extending.md", "class MarkerEndpoint"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(sys, "path", [*sys.path, str(root)])
        patch.delitem(sys.modules, "my_task", raising=False)
        size = ["--patients", "24", "--held-out", "12", "--dim", "1280"]
        assert main(["simulate", str(root / "cohorts"), "--features-only", *size]) == 0
        for cohort in ("development", "held_out"):  # the store says that the default encoder made its features
            store = root / "cohorts" / cohort / "features.zarr" / "zarr.json"
            content = json.loads(store.read_text())
            content["attributes"]["encoder"] = load_encoder(backend="torch").identity
            store.write_text(json.dumps(content))
        made = Journey(root)
        trainer = {"default_root_dir": str(root / "runs" / "marker"), "max_epochs": 2, "enable_progress_bar": False}
        model = {"class_path": "SubspaceStudent", "init_args": {"width": 16, "task": TASK}}
        assert main(["fit", "--config", made.config("development", model=model, trainer=trainer)]) == 0
        yield made


def test_the_checkpoint_stores_the_class_and_what_was_fitted(journey):
    task = torch.load(journey.best, weights_only=True)["hyper_parameters"]["task"]
    ages = pd.read_csv(journey.root / "cohorts" / "development" / "clinical.csv")["age"]
    assert task["class_path"] == "my_task.MarkerLevel"
    assert ages.min() < task["init_args"]["mean"] < ages.max()


def test_a_test_and_its_report_state_the_endpoint_s_metrics(journey):
    config = journey.config("held_out", data={"recalibrate": 0.3})
    assert main(["test", "--ckpt_path", journey.best, "--config", config]) == 0
    folder = journey.root / "runs" / "marker" / "test" / "held_out"
    table, metrics = pd.read_csv(folder / "predictions.csv"), json.loads((folder / "metrics.json").read_text())
    expected = (
        1 - ((table["label"] - table["marker"]) ** 2).sum() / ((table["label"] - table["label"].mean()) ** 2).sum()
    )
    assert metrics["r2"]["value"] == pytest.approx(expected, abs=1e-6)
    assert metrics["r2"]["low"] < metrics["r2"]["value"] < metrics["r2"]["high"]
    assert json.loads((folder / "context.json").read_text())["endpoint"] == "my_task.MarkerEndpoint"
    recalibrated = json.loads((folder / "recalibrated.json").read_text())
    assert recalibrated["reason"] == "only survival, class probabilities and predicted values can be recalibrated"
    assert "Mean absolute error" in Page((folder / "report.html").read_text()).text
    assert main(["report", str(journey.root / "runs" / "marker"), "--out", str(journey.root / "page.html")]) == 0
    assert "is judged by R²: " in Page((journey.root / "page.html").read_text()).text


def test_predict_slide_states_the_endpoint_s_columns(journey, shared_data):
    slide = shared_data / "slides" / "histo_500x300.jpg"
    out = journey.root / "answers"
    assert main(["predict-slide", str(slide), "--mpp", "0.5", "--ckpt_path", journey.best, "--out", str(out)]) == 0
    record = json.loads((out / slide.stem / "prediction.json").read_text())
    assert record["task"] == "marker_level"
    assert record["answer"][0].startswith("marker: ")
    assert record["headline"]["value"] == record["prediction"]["marker"]
    text = Page((out / slide.stem / "report.html").read_text()).text
    assert "Red tiles raise the answer" in text


def test_a_cross_validation_compares_networks_and_regressions(journey):
    config = journey.config(
        "development",
        model={"class_path": "SubspaceTeacher", "init_args": {"width": 16, "task": TASK}},
        trainer={"default_root_dir": str(journey.root / "runs" / "folds"), "max_epochs": 1},
        data={"split": {"folds": 2, "stratify": False}, "covariates": ["sex", "stage"]},
    )
    argv = ["crossval", "--config", config, "--models", "teacher,rna_linear,clinical"]
    assert main(argv) == 0
    folder = journey.root / "runs" / "folds_crossval"
    result = json.loads((folder / "crossval.json").read_text())
    assert result["endpoint"] == "my_task.MarkerEndpoint"
    assert result["primary_metric"] == "r2"
    assert {"teacher", "rna_linear", "clinical", "teacher+clinical"} <= set(result["models"])
    table = pd.read_csv(folder / "oof_predictions.csv")
    rows = table[table["model"] == "rna_linear"]
    expected = 1 - ((rows["label"] - rows["marker"]) ** 2).sum() / ((rows["label"] - rows["label"].mean()) ** 2).sum()
    assert result["models"]["rna_linear"]["r2"]["pooled"]["value"] == pytest.approx(expected, abs=1e-6)
    assert main(["report", str(folder)]) == 0
    assert "R²" in Page((folder / "report.html").read_text()).text


def test_an_endpoint_that_cannot_be_imported_is_refused_with_the_way_out(journey, monkeypatch, capsys):
    assert main(["test", "--ckpt_path", journey.best, "--config", journey.config("held_out"), "--overwrite"]) == 0
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(journey.root)])
    monkeypatch.delitem(sys.modules, "my_task")
    monkeypatch.chdir(journey.root / "runs")
    assert main(["report", str(journey.root / "runs" / "marker"), "--out", str(journey.root / "again.html")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "my_task.MarkerEndpoint cannot be imported; run the command in the folder that contains the class" in error
