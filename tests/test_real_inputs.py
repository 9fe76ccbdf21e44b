"""Real tables with real outcomes, as their authors publish them, through `dmml fit` and `dmml test`."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from lifelines.utils import concordance_index

from dmml.__main__ import main
from dmml.networks.packing import unpack
from dmml.training.checkpointing.seen_patients import patients_among

pytestmark = pytest.mark.slow


def write_config(name: str, task: dict, section: dict, epochs: int) -> str:
    """A config for an RNA-only teacher, in the working directory."""
    content = {
        "model": {"class_path": "SubspaceTeacher", "init_args": {"width": 32, "lr": 0.002, "task": task}},
        "data": {
            "class_path": "MultimodalDataModule",
            "init_args": {"name": name, "features": None, "fold": 0, "batch_size": 32} | section,
        },
        "trainer": {
            "default_root_dir": f"runs/{name}",
            "max_epochs": epochs,
            "enable_progress_bar": False,
            "callbacks": [{"class_path": "GradientCoordination"}],
        },
    }
    Path(f"{name}.yaml").write_text(yaml.safe_dump(content))
    return f"{name}.yaml"


def fit_and_test(config: str, name: str) -> tuple[pd.DataFrame, dict, Path]:
    """Predictions and metrics of the outer test fold, and the checkpoint."""
    best = Path("runs") / name / "checkpoints" / "best.ckpt"
    assert main(["fit", "--config", config]) == 0
    assert main(["test", "--config", config, "--ckpt_path", str(best)]) == 0
    out = Path("runs") / name / "test" / f"{name}_fold0"
    return (
        pd.read_csv(out / "predictions.csv", dtype={"patient_id": str}),
        json.loads((out / "metrics.json").read_text()),
        best,
    )


def published(path: Path, column: str) -> set[str]:
    """Patients of a column of a published split, read by hand."""
    with path.open(newline="") as file:
        return {row[column] for row in csv.DictReader(file) if row[column]}


def with_rna(path: Path) -> dict[str, list[str]]:
    """{patient: first row} of a published table, read by hand; the column names are under the key ""."""
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as file:
        reader = csv.reader(io.TextIOWrapper(file, "utf-8"))
        header = next(reader)
        at, genes = header.index("case_id"), [i for i, name in enumerate(header) if name.endswith("_rnaseq")]
        rows: dict[str, list[str]] = {"": header}
        for row in reader:
            if any(row[i] for i in genes):
                rows.setdefault(row[at], row)
    return rows


def test_the_survival_of_luad_is_predicted_from_rna_on_a_published_fold(shared_data, tmp_path):
    folder = shared_data / "tcga_luad"
    section = {
        "clinical": str(folder / "clinical.csv"),
        "outcome": {"time": "os_days", "event": "os_event", "unit": "days"},
        "covariates": ["age", "sex", "stage"],
        "expression": {
            "path": str(folder / "mcat_luad_all_clean.csv.zip"),
            "patient_id": "case_id",
            "suffix": "_rnaseq",
            "scale": "zscore",
        },
        "split": str(folder / "splits_5fold"),
    }
    task = {"class_path": "Survival", "init_args": {"n_intervals": 4}}
    predictions, metrics, best = fit_and_test(write_config("luad", task, section, epochs=4), "luad")

    split = folder / "splits_5fold" / "splits_0.csv"
    rna = with_rna(folder / "mcat_luad_all_clean.csv.zip")
    assert set(predictions["patient_id"]) == published(split, "val") & set(rna)
    assert predictions["patient_id"].is_unique
    assert (predictions["has_expression"] == 1).all()
    assert (predictions[["n_tokens_10x", "n_tokens_20x"]] == 0).all(axis=None)

    clinical = pd.read_csv(folder / "clinical.csv", dtype={"patient_id": str}).set_index("patient_id")
    observed_outcomes = clinical.loc[predictions["patient_id"], ["os_days", "os_event"]].dropna()
    risk = predictions.set_index("patient_id")["risk"].loc[observed_outcomes.index]
    entry = metrics["c_index"]
    assert (entry["n"], entry["events"]) == (len(observed_outcomes), int(observed_outcomes["os_event"].sum()))
    assert entry["value"] == pytest.approx(
        concordance_index(observed_outcomes["os_days"], -risk, observed_outcomes["os_event"])
    )
    assert entry["low"] < entry["value"] < entry["high"]
    assert np.isfinite(predictions["risk"]).all()
    assert predictions["risk"].nunique() > len(predictions) / 2  # it read the RNA: without it all risks are one

    fitted = torch.load(best, weights_only=True)["hyper_parameters"]
    seen = unpack(fitted["fitted"]["patients"])
    for part in ("train", "val"):  # neither training nor the choice of the epoch met a patient of the outer test
        assert patients_among(published(split, "val"), seen[part]) == []
        assert len(patients_among(published(split, "train"), seen[part])) == len(seen[part]["hashes"]) > 0
    edges = fitted["task"]["init_args"]["edges"]
    train = clinical.loc[sorted(published(split, "train") & set(clinical.index))]
    deaths = train.loc[train["os_event"] == 1, "os_days"]
    assert deaths.min() < edges[0] < edges[1] < edges[2] < deaths.max()
    assert fitted["task"]["init_args"]["end"] <= train["os_days"].max()  # and no test patient's time


def test_the_grade_of_gbmlgg_is_predicted_from_rna_on_a_published_fold(shared_data, tmp_path):
    folder = shared_data / "tcga_gbmlgg"
    section = {
        "clinical": str(folder / "grade_diagnosis.csv"),
        "patient_id": "case_id",
        "outcome": {"label": "grade"},
        "expression": {
            "path": str(folder / "porpoise_gbmlgg_all_clean.csv.zip"),
            "patient_id": "case_id",
            "suffix": "_rnaseq",
            "scale": "zscore",
        },
        "split": str(folder / "splits_5fold"),
    }
    task = {"class_path": "Classification", "init_args": {"classes": ["G2", "G3", "G4"]}}
    predictions, metrics, _ = fit_and_test(write_config("gbmlgg", task, section, epochs=2), "gbmlgg")

    grades = (
        pd.read_csv(folder / "grade_diagnosis.csv", dtype=str).drop_duplicates("case_id").set_index("case_id")["grade"]
    )
    rna = with_rna(folder / "porpoise_gbmlgg_all_clean.csv.zip")
    expected = published(folder / "splits_5fold" / "splits_0.csv", "val") & set(rna) & set(grades.index)
    assert set(predictions["patient_id"]) == expected
    names = ["G2", "G3", "G4"]
    assert predictions[[f"prob_{name}" for name in names]].sum(axis=1).to_numpy() == pytest.approx(1.0)
    truth = grades.loc[predictions["patient_id"]]
    observed = truth.notna().to_numpy()
    assert (predictions["label"][observed].to_numpy() == truth[observed].to_numpy()).all()
    predicted = predictions[[f"prob_{name}" for name in names]].to_numpy().argmax(1)[observed]
    right = np.array([names.index(grade) for grade in truth[observed]]) == predicted
    assert metrics["accuracy"]["value"] == pytest.approx(right.mean())
    assert metrics["accuracy"]["n"] == observed.sum()
    # A logistic model reaches 0.69; two epochs of a network must be told from the commonest grade.
    assert metrics["auc"]["low"] > 0.5
