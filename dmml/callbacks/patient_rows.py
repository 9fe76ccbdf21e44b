"""Collects a model's inputs, one row per patient: mean tile features and standardised genes, for comparing cohorts."""

from __future__ import annotations

import numpy as np
import torch
from lightning.pytorch.utilities.types import STEP_OUTPUT
from numpy.typing import NDArray

from dmml.callbacks.collection import PatientCollector
from dmml.types import Batch

PatientInputs = dict[str, dict[str, NDArray[np.float32]]]
"""{"10x" | "20x": {patient: (D,)}, "tumor" | "tme": {patient: (G,)}}, without the patients who lack the input"""


def patient_inputs(batch: Batch) -> PatientInputs:
    """Return a patient's mean features per magnification, and the genes per subspace.

    Args:
        batch: Batch on any device.
    """
    inputs: PatientInputs = {}
    for m, bag in batch.bags.items():
        count = bag.mask.sum(1)
        total = torch.einsum("bnd,bn->bd", bag.features.float(), bag.mask.float())
        mean = (total / count.clamp_min(1).unsqueeze(1)).cpu().numpy()
        has_tokens = (count > 0).tolist()
        inputs[f"{m}x"] = {p: mean[i] for i, p in enumerate(batch.patient_id) if has_tokens[i]}
    has_rna = batch.has_expression.tolist()
    for s, expression in batch.expression.items():
        genes = expression.float().cpu().numpy()
        inputs[s] = {p: genes[i] for i, p in enumerate(batch.patient_id) if has_rna[i]}
    return inputs


def add_inputs(into: PatientInputs, more: PatientInputs) -> None:
    """Add the patients of another batch or process in place; a patient who is already present is replaced."""
    for name, patients in more.items():
        into.setdefault(name, {}).update(patients)


class CollectRows(PatientCollector[PatientInputs]):
    """Keeps the rows of all tested patients; of the tiles, only their mean is kept."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.rows: PatientInputs = {}

    def _collect(self, outputs: STEP_OUTPUT, batch: Batch) -> None:
        add_inputs(self.rows, patient_inputs(batch))

    def _collected(self) -> PatientInputs:
        return self.rows

    def _merge(self, collected: list[PatientInputs]) -> None:
        self.rows = {}
        for inputs in collected:
            add_inputs(self.rows, inputs)
