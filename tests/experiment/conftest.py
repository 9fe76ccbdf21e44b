"""Checkpoints of models that read features of the real default encoder, fitted through the command line in seconds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from crossvals import run, write_config

from dmml.__main__ import main
from dmml.slides.encoders.build import load_encoder

SURVIVAL = {"time": "os_days", "event": "os_event", "unit": "days"}


@dataclass(frozen=True)
class Models:
    """Where the checkpoints are, and the slides to predict."""

    root: Path
    slides: Path

    def best(self, name: str) -> str:
        """Best checkpoint of a run."""
        return str(self.root / "runs" / name / "checkpoints" / "best.ckpt")

    def changed(self, name: str, path: Path, **hparams: Any) -> str:
        """A copy of a checkpoint with other hyper-parameters."""
        checkpoint = torch.load(self.best(name), weights_only=True)
        checkpoint["hyper_parameters"].update(hparams)
        torch.save(checkpoint, path)
        return str(path)

    @property
    def plain(self) -> str:
        """An H&E crop without µm per pixel: three tiles at 0.5."""
        return str(self.slides / "histo_500x300.jpg")

    @property
    def svs(self) -> str:
        """A whole small slide."""
        return str(self.slides / "cmu_small_region.svs")


@pytest.fixture(scope="session")
def models(tmp_path_factory, shared_data) -> Models:
    """A survival teacher, its student, and a student of the grade.

    Token features are simulated; their store says that the default encoder made them, as the models then believe.
    """
    root = tmp_path_factory.mktemp("models")
    argv = ["simulate", str(root), "--features-only", "--patients", "24", "--held-out", "4", "--dim", "1280"]
    assert main(argv) == 0
    store = root / "development" / "features.zarr" / "zarr.json"
    content = json.loads(store.read_text())
    content["attributes"]["encoder"] = load_encoder(backend="torch").identity
    store.write_text(json.dumps(content))
    fitted = Models(root, shared_data / "slides")
    _fit(fitted, "teacher", "SubspaceTeacher", {"class_path": "Survival"}, SURVIVAL)
    _fit(fitted, "student", "SubspaceStudent", {"class_path": "Survival"}, SURVIVAL, teacher=fitted.best("teacher"))
    grades = {"class_path": "Classification", "init_args": {"classes": ["G2", "G3", "G4"]}}
    _fit(fitted, "grade", "SubspaceStudent", grades, {"label": "grade"})
    return fitted


def _fit(models: Models, name: str, kind: str, task: dict, outcome: dict, **more: Any) -> None:
    folder = models.root / "development"
    files = {key: str(folder / file) for key, file in (("clinical", "clinical.csv"), ("features", "features.zarr"))}
    data = files | {"outcome": outcome, "expression": str(folder / "expression.parquet")}
    content = {
        "model": {"class_path": kind, "init_args": {"width": 16, "lr": 0.003, "task": task} | more},
        "data": {"class_path": "MultimodalDataModule", "init_args": data},
        "trainer": {
            "default_root_dir": str(models.root / "runs" / name),
            "max_epochs": 2,
            "enable_progress_bar": False,
            "callbacks": [{"class_path": "GradientCoordination"}],
        },
    }
    path = models.root / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    assert main(["fit", "--config", str(path)]) == 0


@dataclass(frozen=True)
class Done:
    """One run of `dmml predict-slide`."""

    folder: Path
    record: dict[str, Any]


@pytest.fixture(scope="session")
def whole_slide(models, tmp_path_factory) -> Done:
    """The student's answer on a whole slide."""
    out = tmp_path_factory.mktemp("whole_slide")
    assert main(["predict-slide", models.svs, "--ckpt_path", models.best("student"), "--out", str(out)]) == 0
    folder = out / "cmu_small_region"
    return Done(folder, json.loads((folder / "prediction.json").read_text()))


@pytest.fixture
def through_a_cohort(models, tmp_path):
    """Extracts slides and predicts them as a cohort: the long way to the same answer."""

    def predict(run: str, slides: dict[str, str], mpp: str) -> pd.Series:
        """{slide path: patient}, one patient in all → the row of `predictions.csv`."""
        store, table = tmp_path / "long.zarr", tmp_path / "long.csv"
        assert main(["extract", *slides, "--out", str(store), "--mpp", mpp]) == 0
        rows = [(patient, Path(path).stem) for path, patient in slides.items()]
        pd.DataFrame(rows, columns=["patient_id", "slide_id"]).to_csv(table, index=False)
        section = {"name": "long", "clinical": str(table), "features": str(store)}
        config = tmp_path / "long.yaml"
        config.write_text(yaml.safe_dump({"data": {"class_path": "MultimodalDataModule", "init_args": section}}))
        assert main(["predict", "--config", str(config), "--ckpt_path", models.best(run)]) == 0
        table = pd.read_csv(models.root / "runs" / run / "predict" / "long" / "predictions.csv")
        assert len(table) == 1
        return table.iloc[0]

    return predict


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """24 patients, token features of width 16."""
    root = tmp_path_factory.mktemp("crossval")
    assert main(["simulate", str(root), "--features-only", "--patients", "24", "--held-out", "4", "--dim", "16"]) == 0
    return root / "development"


@pytest.fixture(scope="session")
def whole(cohort, tmp_path_factory):
    """Every model on two folds."""
    root = tmp_path_factory.mktemp("whole")
    config = write_config(root / "both.yaml", cohort)
    run("--config", config)
    return root / "runs" / "both_crossval"
