"""The linear models of a fold, and models joined with clinical covariates, as rows of `predictions.csv`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from dmml.errors import InputError
from dmml.evaluation.predictions import prediction_row, read_predictions
from dmml.experiment.crossval.covariates import CovariateCode
from dmml.experiment.crossval.fold_data import FoldData
from dmml.experiment.crossval.penalty_choice import InnerFold, choose_penalty, fit_regression
from dmml.tasks import Task

PredictionRows = list[dict[str, Any]]
"""Rows of `predictions.csv`, one per patient"""
Encoder = Callable[[list[str]], NDArray]
"""Patients → (n, p), centred and scaled with the patients that the encoder was fitted to"""


class LinearPredictions(NamedTuple):
    """Predictions of one fold's linear model.

    Attributes:
        training: Training patients with a known outcome, each predicted by a model that was not fitted to the patient.
        test: The outer test patients.
        fitted: What was fitted, in plain Python, for `context.json`.
    """

    training: PredictionRows
    test: PredictionRows
    fitted: dict[str, Any]


class _Inputs(NamedTuple):
    """Input of a regression.

    Attributes:
        patients: Training patients who have the input and a known outcome.
        fit_encoder: Fits an encoder to the given training patients alone.
        fitted: What is stored with the model.
    """

    patients: list[str]
    fit_encoder: Callable[[list[str]], Encoder]
    fitted: dict[str, Any]


def predict_linear(name: str, data: FoldData, task: Task, where: str) -> LinearPredictions:
    """Fit `rna_linear` or `clinical` on all training patients of the fold, inner validation included.

    The penalty is chosen by cross-validation among them. Patients without RNA are left out when fitting to RNA, and are
    predicted as the mean patient.

    Args:
        name: Name of the model.
        data: The data module, turned to the fold.
        task: The task, fitted on the fold's training patients.
        where: Name of the fold in messages.

    Raises:
        InputError: There are fewer than two patients to fit to, or nothing can be learned from their outcomes.
    """
    training, test = data.with_outcome("train") + data.with_outcome("val"), data.patients("test")
    inputs = _gene_inputs(data, training) if name == "rna_linear" else _covariate_inputs(data, training)
    if len(inputs.patients) < 2:
        raise InputError(f"{where}: {name} has fewer than two training patients with a known outcome; use fewer folds")
    regression, outcome = task.regression(), data.target(task, inputs.patients)
    regression.check_learnable(outcome, where)
    penalty, held_out = _held_out_predictions(inputs, data, task)
    encode = inputs.fit_encoder(inputs.patients)
    x = encode(inputs.patients)
    model = fit_regression(regression, x, outcome, penalty, where)
    without_rna = [patient for patient in training if patient not in held_out]  # no model was fitted to them
    held_out |= _by_patient(without_rna, model.predictions(encode(without_rna)))
    of_test = _by_patient(test, model.predictions(encode(test)))
    fitted = {"penalty": penalty, "inputs": x.shape[1], "weight_norm": float((model.weight**2).sum())} | inputs.fitted
    fitted["n_training"] = len(inputs.patients)
    if (risk := model.predictions(x).get("risk")) is not None:
        fitted["median_risk"] = float(np.median(risk))
    return LinearPredictions(_as_rows(data, task, training, held_out), _as_rows(data, task, test, of_test), fitted)


def _gene_inputs(data: FoldData, training: list[str]) -> _Inputs:
    def fit_encoder(patients: list[str]) -> Encoder:
        statistics = data.gene_statistics(patients)
        return lambda others: data.genes(others, statistics)

    return _Inputs([patient for patient in training if data.has_expression(patient)], fit_encoder, {})


def _covariate_inputs(data: FoldData, training: list[str]) -> _Inputs:
    code = CovariateCode.fit(data.covariates(training), data.covariate_levels)

    def fit_encoder(patients: list[str]) -> Encoder:
        refitted = code.refit(data.covariates(patients))
        return lambda others: refitted.encode(data.covariates(others))

    return _Inputs(training, fit_encoder, {"coding": code.describe()})


def _held_out_predictions(inputs: _Inputs, data: FoldData, task: Task) -> tuple[float, dict[str, dict[str, float]]]:
    """Choose the penalty by cross-validation; also return {patient: columns} predicted without the patient."""
    folds, held_out = [], []
    for others, left_out in data.inner_folds(inputs.patients):
        encode = inputs.fit_encoder(others)
        folds.append(
            InnerFold(encode(others), data.target(task, others), encode(left_out), data.target(task, left_out))
        )
        held_out.append(left_out)
    penalty, models = choose_penalty(task.regression(), folds)
    predictions: dict[str, dict[str, float]] = {}
    for left_out, fold, model in zip(held_out, folds, models, strict=True):
        predictions |= _by_patient(left_out, model.predictions(fold.x_held_out))
    return penalty, predictions


def _by_patient(patients: list[str], columns: dict[str, NDArray]) -> dict[str, dict[str, float]]:
    return {patient: {name: values[i] for name, values in columns.items()} for i, patient in enumerate(patients)}


def _as_rows(
    data: FoldData, task: Task, patients: list[str], predictions: dict[str, dict[str, float]]
) -> PredictionRows:
    outcomes = _rows(data.outcome_columns(task, patients))
    return [
        prediction_row(patient, outcome, predictions[patient], data.has_expression(patient))
        for patient, outcome in zip(patients, outcomes, strict=True)
    ]


def predict_joined(model: Path, clinical: Path, data: FoldData, task: Task) -> LinearPredictions:
    """Join a fitted model's score with the clinical model's.

    The weights are learned from training patients to whom neither score was fitted. For a network, which is fitted
    once, these are its inner validation patients; for a regression, all training patients, each with the score of the
    inner fold that held the patient out. Rows keep the model's columns that are neither predictions nor outcomes.

    Args:
        model: Folder of the model.
        clinical: Folder of the clinical model.
        data: The data module, turned to the fold.
        task: The task, fitted on the fold's training patients.
    """
    training, test = (
        [read_predictions(folder / file) for folder in (clinical, model)] for file in ("inner.csv", "predictions.csv")
    )
    predicted = set.intersection(*(set(table["patient_id"]) for table in training))
    fitted_to = [patient for patient in data.with_outcome("train") + data.with_outcome("val") if patient in predicted]
    regression = task.regression()
    scores = [regression.score_of(_rows_of(table, fitted_to)) for table in training]
    scales = [regression.scale(score) for score in scores]
    of_clinical, of_model = ((score - mean) / sd for score, (mean, sd) in zip(scores, scales, strict=True))
    joined = regression.join(of_clinical, of_model, data.target(task, fitted_to))
    predicted_by_networks = task.predictions(torch.zeros(1, task.n_outputs))

    def rows(tables: list[pd.DataFrame], patients: list[str]) -> PredictionRows:
        both = [regression.score_of(_rows_of(table, patients)) for table in tables]
        x = np.hstack([(score - mean) / sd for score, (mean, sd) in zip(both, scales, strict=True)])
        columns = data.outcome_columns(task, patients) | joined.predictions(x)
        other = _rows_of(tables[1], patients).drop(columns=[*columns, *predicted_by_networks], errors="ignore")
        return _rows({"patient_id": patients} | columns | {str(name): other[name].tolist() for name in other})

    first_of_model = len(joined.weight) // 2
    weights = [float(joined.weight[0, 0]), float(joined.weight[first_of_model, 0])]
    fitted: dict[str, Any] = {"weights": weights, "n_training": len(fitted_to)}
    training_rows = rows(training, fitted_to)
    if training_rows and "risk" in training_rows[0]:
        fitted["median_risk"] = float(np.median([row["risk"] for row in training_rows]))
    return LinearPredictions(training_rows, rows(test, list(test[1]["patient_id"])), fitted)


def _rows_of(predictions: pd.DataFrame, patients: list[str]) -> pd.DataFrame:
    """Return the rows of these patients, in this order."""
    return predictions.set_index("patient_id").loc[patients]


def _rows(columns: dict[str, Any]) -> PredictionRows:
    values = [list(column) for column in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]
