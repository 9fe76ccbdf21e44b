"""Prepares training patients for the fit of a backbone: streamed bags with a bounded number of tokens per patient."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dmml.backbone.fit_backbone import TrainingPatients
from dmml.data.dataset import Patient
from dmml.data.feature_statistics import even_rows, fill_missing
from dmml.progress_bars import progress_bar
from dmml.tasks import Task
from dmml.types import Bag

if TYPE_CHECKING:
    from dmml.data.module import MultimodalDataModule


def patients_of_fit(data: MultimodalDataModule) -> list[str]:
    """Return the patients to whom a backbone is fitted, in the order of its rows: training, then inner validation.

    Inner validation evaluates cross-fitted predictions, so its patients can take part in the fit.

    Args:
        data: The data module after `setup("fit")`.
    """
    return [*data.patients("train"), *data.patients("val")]


def training_patients(
    data: MultimodalDataModule,
    task: Task,
    fitted: Mapping[str, Any],
    magnifications: tuple[int, ...],
    max_tokens: int,
    program_scores: Callable[[dict[str, Tensor], Tensor], dict[str, Tensor]] | None,
    with_rna: bool,
    patients: list[str] | None = None,
) -> TrainingPatients:
    """Collect the input of `fit_backbone`.

    Args:
        data: The data module after `setup("fit")`.
        task: A task that was fitted to the same patients.
        fitted: The model's fitted values, with `gene_statistics` and `feature_statistics`.
        magnifications: Magnifications of the model.
        max_tokens: Maximum number of tokens per patient and magnification in one pass.
        program_scores: Maps expression and (n,) bool, whether a patient has RNA, to {subspace: (n, P)}; None = programs
            are not fitted.
        with_rna: Whether the model of the outcome reads RNA.
        patients: The patients; None = those in `patients_of_fit`.
    """
    patients = patients_of_fit(data) if patients is None else patients
    statistics = {int(m): values for m, values in (fitted.get("feature_statistics") or {}).items()}
    feature_statistics = {
        m: (np.array(statistics[m]["mean"]), np.array(statistics[m]["scale"]))
        for m in magnifications
        if m in statistics
    }
    expression, has_expression = _expression(data, patients, fitted.get("gene_statistics") or {})
    return TrainingPatients(
        bags={m: _passes(data, patients, m, mean, max_tokens) for m, (mean, _) in feature_statistics.items()},
        feature_statistics=feature_statistics,
        expression=expression if with_rna else {},
        has_expression=has_expression,
        programs={} if program_scores is None else program_scores(expression, torch.from_numpy(has_expression)),
        target=task.encode(data.outcome(patients)),
    )


def _expression(
    data: MultimodalDataModule, patients: list[str], statistics: Mapping[str, Any]
) -> tuple[dict[str, Tensor], np.ndarray]:
    """Return {subspace: (n, G)} standardised expression, and (n,) bool, whether a patient has RNA."""
    if data.rna is None or not statistics:
        return {}, np.zeros(len(patients), bool)
    values = {s: torch.from_numpy(data.rna.rows(patients, kept)) for s, kept in statistics.items()}
    return values, np.array([data.has_expression(patient) for patient in patients])


def _passes(
    data: MultimodalDataModule, patients: list[str], m: int, mean: np.ndarray, max_tokens: int
) -> Callable[[], Iterator[Bag]]:
    """Return a function that starts a new pass over the patients at one magnification."""

    def bags() -> Iterator[Bag]:
        progress = progress_bar(patients, f"backbone, {m}x", unit="patient")
        for patient_id in progress:
            yield _bag(data.reader.read(patient_id), m, mean, max_tokens)

    return bags


def _bag(patient: Patient, m: int, mean: np.ndarray, max_tokens: int) -> Bag:
    """Return a (1, N, D) bag, N ≤ max_tokens; a patient without tokens at the magnification has one masked token."""
    features = patient.features.get(m)
    if features is None or not len(features):
        index = torch.zeros(1, 1, dtype=torch.long)
        return Bag(torch.zeros(1, 1, len(mean)), torch.zeros(1, 1, 2), index.bool(), index, n_slides=1)
    rows = even_rows(len(features), max_tokens, (0, m), patient.patient_id)
    x = fill_missing(torch.from_numpy(np.array(features[rows])).unsqueeze(0), torch.from_numpy(mean))
    position, slide = np.array(patient.position[m][rows]), np.array(patient.slide[m][rows])
    # Slides are renumbered, because the drawn tokens may come from only some of a patient's slides.
    slide = np.unique(slide, return_inverse=True)[1]
    mask = torch.ones(1, x.shape[1], dtype=torch.bool)
    index = torch.from_numpy(slide).long().unsqueeze(0)
    return Bag(x, torch.from_numpy(position).unsqueeze(0), mask, index, n_slides=int(slide.max()) + 1)
