"""What later evaluations need to know of the training patients: their median risk, and how their inputs are distributed.

After a fit, its caller loads the best epoch (`load_weights`), predicts the training patients with it
(`predict_training_patients`), summarises their inputs (`fit_references`), and adds both results to the best checkpoint
(`add_to_fitted`). Every later cohort is cut at this median for its Kaplan–Meier curves, so that no tested cohort chooses
its own cut. The references measure how far a later cohort is from these patients (`dmml.evaluation.shift`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from numpy.typing import NDArray
from torch import Tensor

from dmml.atomic_files import atomic_write
from dmml.callbacks.patient_rows import PatientInputs, add_inputs, patient_inputs
from dmml.evaluation.shift import fit_reference
from dmml.evaluation.statistics.stain import NAMES, stain_of
from dmml.types import SUBSPACES

if TYPE_CHECKING:
    from dmml.data.module import MultimodalDataModule


@dataclass
class TrainingPredictions:
    """Predictions and inputs of the training patients.

    Attributes:
        risk: (n,) risk of each patient, on the CPU; empty for a task without a risk.
        inputs: Inputs of the model, one row per patient.
    """

    risk: Tensor = field(default_factory=lambda: torch.zeros(0))
    inputs: PatientInputs = field(default_factory=dict)

    @property
    def median_risk(self) -> float | None:
        """Median of the risk; None for a task without a risk."""
        return self.risk.quantile(0.5).item() if len(self.risk) else None


def best_checkpoint(trainer: Trainer) -> str:
    """Return the path of the best epoch's checkpoint, from the first `ModelCheckpoint` that has one; else empty."""
    checkpoints = (callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint))
    return next((callback.best_model_path for callback in checkpoints if callback.best_model_path), "")


def load_weights(path: str | Path, model: LightningModule, device: torch.device) -> None:
    """Give a model the weights of a checkpoint of its own fit, move it to the device, and set it to eval mode."""
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
    model.to(device).eval()


def predict_training_patients(
    model: LightningModule, data: MultimodalDataModule, keep_inputs: bool = True
) -> TrainingPredictions:
    """Predict the training patients, in a fixed order.

    Args:
        model: The fitted model, in eval mode.
        data: Its data module.
        keep_inputs: Whether to return the inputs, too. Without them, a task without a risk predicts one batch only.
    """
    risks: list[Tensor] = []
    inputs: PatientInputs = {}
    with torch.inference_mode():
        for batch in data.train_patients_in_order():
            batch = move_data_to_device(batch, model.device)
            predictions = model.predict_step(batch, 0)["predictions"]
            if "risk" in predictions:
                risks.append(predictions["risk"].cpu())
            elif not keep_inputs:
                break
            if keep_inputs:
                add_inputs(inputs, patient_inputs(batch))
    return TrainingPredictions(torch.cat(risks) if risks else torch.zeros(0), inputs)


def fit_references(
    inputs: PatientInputs, gene_statistics: Mapping[str, Mapping[str, Any]], data: MultimodalDataModule
) -> dict[str, Any]:
    """Summarise the inputs that the training patients have, as {"stain", "10x", "20x", "tme", "tumor": reference}.

    Args:
        inputs: Inputs of the training patients.
        gene_statistics: `gene_statistics` of the model, which name the genes of each subspace.
        data: Data module of the training patients.
    """
    references = {}
    for name, patients in inputs.items():
        if patients:
            table = np.stack(list(patients.values())).astype(float)
            if name in SUBSPACES:
                table = without_imputed(table, list(patients), gene_statistics[name]["genes"], data)
            references[name] = fit_reference(table)
    stains = patient_stains(data, data.patients("train")) if hasattr(data, "patients") else {}
    if stains:
        references["stain"] = fit_reference(np.stack(list(stains.values())), NAMES)
    # The genes' names are in gene_statistics, in the order of the columns.
    return {name: references[name] for name in sorted(references, key=lambda name: (name in SUBSPACES, name))}


def add_to_fitted(path: str | Path, values: Mapping[str, Any]) -> None:
    """Add what was fitted after the fit to `fitted` of a checkpoint, which is rewritten completely or not at all.

    Args:
        path: The checkpoint.
        values: {name: value}, with values that a checkpoint may hold (see `dmml.networks.packing`).
    """
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    checkpoint["hyper_parameters"]["fitted"].update(values)
    with atomic_write(path) as partial:
        torch.save(checkpoint, partial)


def without_imputed(
    table: NDArray[np.float64], patients: list[str], genes: list[str], data: MultimodalDataModule
) -> NDArray[np.float64]:
    """Replace every imputed value in a table of standardised genes by NaN.

    Args:
        table: (patients × genes), as a model reads them.
        patients: Patients of the rows.
        genes: Genes of the columns.
        data: The data module of these patients.
    """
    rna = getattr(data, "rna", None)
    return table if rna is None else np.where(rna.is_measured(patients, genes), table, np.nan)


def patient_stains(data: MultimodalDataModule, patients: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Return {patient: (6,)} mean stain of the patient's slides; empty if the store keeps no thumbnails."""
    store = getattr(data, "store", None)
    if store is None or not hasattr(data, "reader"):
        return {}
    means = {}
    for patient in patients:
        thumbnails = (store.thumbnail(slide) for slide in data.reader.slides.get(patient, []))
        stains = [stain for image in thumbnails if image is not None and (stain := stain_of(image)) is not None]
        if stains:
            means[patient] = np.mean(stains, axis=0)
    return means
