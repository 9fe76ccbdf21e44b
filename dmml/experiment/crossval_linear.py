"""The linear models of a fold, and a model joined with clinical covariates, as rows of `predictions.csv`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmml.evaluation.predictions import read_predictions
from dmml.experiment.baselines import fit_linear, join
from dmml.experiment.covariates import CovariateCode
from dmml.experiment.crossval_data import FoldData
from dmml.tasks import Task

Rows = list[dict[str, Any]]


def predict_linear(name: str, data: FoldData, task: Task, where: str) -> tuple[Rows, Rows, dict[str, Any]]:
    """Fit `rna_linear` or `clinical` on the fold's training patients.

    Patients without RNA take no part in fitting on RNA, and are predicted as the mean patient.

    Args:
        name: Of the model.
        data: Turned to the fold.
        task: Fitted on the fold's training patients.
        where: What messages call the fold.

    Returns:
        Rows of inner validation and of outer test patients, and what was fitted, in plain Python.
    """
    parts = {part: data.known(part) for part in ("train", "val")}
    if name == "rna_linear":
        parts = {part: [p for p in patients if data.has_expression(p)] for part, patients in parts.items()}
        statistics = data.gene_statistics()

        def design(patients: list[str]) -> NDArray:
            return data.genes(patients, statistics)

    else:
        code = CovariateCode.fit(data.covariates(parts["train"]))

        def design(patients: list[str]) -> NDArray:
            return code.encode(data.covariates(patients))

    x = {part: design(patients) for part, patients in parts.items()}
    outcome = {part: data.target(task, patients) for part, patients in parts.items()}
    model = fit_linear(task, x["train"], outcome["train"], x["val"], outcome["val"], where)
    told = {"penalty": model.penalty, "inputs": int(x["train"].shape[1]), "weight_norm": float((model.weight**2).sum())}
    if task.kind == "survival":
        told["median_risk"] = float(np.median(model.score(x["train"])[:, 0]))
    rows = []
    for patients in (data.patients("val"), data.patients("test")):
        columns = data.outcome_columns(task, patients) | model.predictions(design(patients), task)
        has = [int(data.has_expression(patient)) for patient in patients]
        rows.append(_rows({"patient_id": patients} | columns | {"has_expression": has}))
    return rows[0], rows[1], told


def predict_joined(model: Path, clinical: Path, data: FoldData, task: Task) -> tuple[Rows, Rows, dict[str, Any]]:
    """Join a fitted model's score with the clinical model's, with weights that the inner validation patients give.

    Args:
        model: Its folder.
        clinical: Folder of the clinical model.
        data: Turned to the fold.
        task: Fitted on the fold's training patients.

    Returns:
        As `predict_linear`.
    """
    tables = {
        part: [read_predictions(folder / file) for folder in (clinical, model)]
        for part, file in (("val", "inner.csv"), ("test", "predictions.csv"))
    }
    known = data.known("val")
    outcome = data.target(task, known)
    scores = {part: [_score(table, task) for table in both] for part, both in tables.items()}
    at_fit = [score.loc[known].to_numpy() for score in scores["val"]]
    centre, spread = zip(*(_scale(values, task) for values in at_fit), strict=True)
    fitted = join(task, *((values - c) / s for values, c, s in zip(at_fit, centre, spread, strict=True)), outcome)
    rows = []
    for part, both in tables.items():
        patients = list(both[1]["patient_id"])
        x = np.hstack(
            [(s.loc[patients].to_numpy() - c) / w for s, c, w in zip(scores[part], centre, spread, strict=True)]
        )
        columns = data.outcome_columns(task, patients) | fitted.predictions(x, task)
        kept = {name: both[1][name].tolist() for name in both[1] if name.startswith(("has_", "n_tokens_"))}
        rows.append(_rows({"patient_id": patients} | columns | kept))
    n = fitted.weight.shape[0] // 2
    told: dict[str, Any] = {"weights": [float(fitted.weight[0, 0]), float(fitted.weight[n, 0])]}
    if task.kind == "survival":  # those whom the join was fitted to are its training patients
        told["median_risk"] = float(np.median([row["risk"] for row in rows[0] if row["patient_id"] in known]))
    return rows[0], rows[1], told


def _score(table: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Log-hazard (n, 1), or centred log-probabilities (n, C), by patient."""
    table = table.set_index("patient_id")
    if task.kind == "survival":
        return table[["risk"]]
    logs = np.log(table[[f"prob_{name}" for name in task.classes]].clip(lower=1e-6))
    return logs.sub(logs.mean(axis=1), axis=0)


def _scale(values: NDArray, task: Task) -> tuple[float, float]:
    """Risks of two models have scales of their own; probabilities are what they are."""
    if task.kind != "survival" or not len(values):
        return 0.0, 1.0
    return float(values.mean()), float(values.std()) or 1.0


def _rows(columns: dict[str, Any]) -> Rows:
    values = [list(column) for column in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]
