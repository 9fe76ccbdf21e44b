"""What later evaluation compares with: the training patients, and their median risk under the model that was chosen."""

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
from dmml.training.packing import pack
from dmml.types import SUBSPACES


def best_checkpoint(trainer: Trainer) -> str:
    """Path of the best epoch's checkpoint, whichever other callbacks write checkpoints; empty where none was written."""
    kept = (callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint))
    return next((callback.best_model_path for callback in kept if callback.best_model_path), "")


def add_training_reference(trainer: Trainer, model: LightningModule, data: Any, shift: bool = True) -> float | None:
    """Predict the training patients with the best checkpoint; write their median risk, and a reference of what they are.

    The Kaplan–Meier cut of every later cohort is this median, so no tested cohort chooses its own. The reference tells
    how far a later cohort lies from these patients (`dmml.evaluation.shift`).

    Args:
        trainer: After fit.
        model: The model that was fitted.
        data: Its data module.
        shift: Whether to keep the reference; without it classes need no second look at the training patients.

    Returns:
        The median risk; None for tasks without a risk, or where no best checkpoint was written.
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
    """{"10x", "20x", "tumor", "tme", "stain": reference} of what the training patients have."""
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
    # The genes' names stand in gene_statistics, in the order of the columns.
    return {name: found[name] for name in sorted(found, key=lambda name: (name in SUBSPACES, name))}


def measured(table: NDArray[np.float64], patients: list[str], genes: list[str], data: Any) -> NDArray[np.float64]:
    """Standardised genes as a model was given them, with NaN in place of every value that was imputed.

    Args:
        table: (patients × genes).
        patients: Of its rows.
        genes: Of its columns.
        data: Their data module.
    """
    rna = getattr(data, "rna", None)
    return table if rna is None else np.where(rna.known(patients, genes), table, np.nan)


def stain_rows(data: Any, patients: list[str]) -> dict[str, NDArray[np.float64]]:
    """{patient: (6,)} mean stain of the patient's slides; empty where the store keeps no pictures of slides."""
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
