"""Reference values of the training patients that later evaluations need: what they are like, and their median risk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from numpy.typing import NDArray

from dmml.callbacks.patient_rows import Rows, join_rows, patient_rows
from dmml.evaluation.shift import fit_reference
from dmml.evaluation.stain import NAMES, stain_of
from dmml.training.checkpointing.packing import pack
from dmml.types import SUBSPACES


def best_checkpoint(trainer: Trainer) -> str:
    """Return the path of the best epoch's checkpoint, from the first `ModelCheckpoint` that has one; else empty."""
    kept = (callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint))
    return next((callback.best_model_path for callback in kept if callback.best_model_path), "")


def add_training_reference(trainer: Trainer, model: LightningModule, data: Any, shift: bool = True) -> float | None:
    """Add the training patients' median risk and their reference distribution to the best checkpoint.

    The model gets the best checkpoint's weights and predicts the training patients with them. Every later cohort is cut
    at this median for its Kaplan–Meier curves, so no tested cohort chooses its own cut. The reference distribution
    serves to measure how far a later cohort is from these patients (`dmml.evaluation.shift`).

    Args:
        trainer: The trainer, after fit.
        model: The fitted model.
        data: Its data module.
        shift: Whether to store the reference distribution. Without it, a task without a risk need not predict the
            training patients.

    Returns:
        The median risk; None for tasks without a risk, or if no best checkpoint was written.
    """
    best = best_checkpoint(trainer)
    if not best or not hasattr(data, "train_patients_in_order"):
        return None
    checkpoint = torch.load(best, map_location="cpu", weights_only=True)
    model.load_state_dict(checkpoint["state_dict"])
    model.to(trainer.strategy.root_device).eval()
    risks, rows = [], {}
    with torch.inference_mode():
        for batch in data.train_patients_in_order():
            batch = move_data_to_device(batch, model.device)
            predicted = model.predict_step(batch, 0)["predictions"]
            if "risk" in predicted:
                risks.append(predicted["risk"].cpu())
            elif not shift:
                return None
            if shift:
                join_rows(rows, patient_rows(batch))
    median = torch.cat(risks).quantile(0.5).item() if risks else None
    fitted = checkpoint["hyper_parameters"]["fitted"]
    if risks:
        fitted["median_risk"] = median
    if shift:
        fitted["reference"] = pack(_references(rows, model, data))
    part = Path(best).with_suffix(".part")
    torch.save(checkpoint, part)
    part.replace(best)
    return median


def _references(rows: Rows, model: Any, data: Any) -> dict[str, Any]:
    """Return {"10x", "20x", "tumor", "tme", "stain": reference} of the inputs that the training patients have."""
    found = {}
    for name, patients in rows.items():
        table = np.stack(list(patients.values())).astype(float) if patients else np.zeros((0, 0))
        if name in SUBSPACES and patients:
            table = measured(table, list(patients), model.fitted["gene_statistics"][name]["genes"], data)
        if patients:
            found[name] = fit_reference(table)
    stain = stain_rows(data, data.patients("train")) if hasattr(data, "patients") else {}
    if stain:
        found["stain"] = fit_reference(np.stack(list(stain.values())), NAMES)
    # The genes' names are in gene_statistics, in the order of the columns.
    return {name: found[name] for name in sorted(found, key=lambda name: (name in SUBSPACES, name))}


def measured(table: NDArray[np.float64], patients: list[str], genes: list[str], data: Any) -> NDArray[np.float64]:
    """Replace every imputed value in a table of standardised genes by NaN.

    Args:
        table: (patients × genes), as a model reads them.
        patients: Patients of the rows.
        genes: Genes of the columns.
        data: The data module of these patients.
    """
    rna = getattr(data, "rna", None)
    return table if rna is None else np.where(rna.is_measured(patients, genes), table, np.nan)


def stain_rows(data: Any, patients: list[str]) -> dict[str, NDArray[np.float64]]:
    """Return {patient: (6,)} mean stain of the patient's slides; empty if the store keeps no thumbnails."""
    store = getattr(data, "store", None)
    if store is None or not hasattr(data, "reader"):
        return {}
    found = {}
    for patient in patients:
        pictures = (store.thumbnail(slide) for slide in data.reader.slides.get(patient, []))
        stains = [stain for picture in pictures if picture is not None and (stain := stain_of(picture)) is not None]
        if stains:
            found[patient] = np.mean(stains, axis=0)
    return found
