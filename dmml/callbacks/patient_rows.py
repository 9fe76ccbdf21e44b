"""Collects a model's inputs, one row per patient: mean tile features and standardised genes, for comparing cohorts."""

from __future__ import annotations

import numpy as np
import torch
from lightning.pytorch.utilities.types import STEP_OUTPUT
from numpy.typing import NDArray

from dmml.callbacks.collection import PatientCollector
from dmml.types import Batch

Rows = dict[str, dict[str, NDArray[np.float32]]]
"""{"10x" | "20x": {patient: (D,)}, "tumor" | "tme": {patient: (G,)}}, without the patients who lack the input"""


def patient_rows(batch: Batch) -> Rows:
    """Return a patient's mean features per magnification, and the genes per subspace.

    Args:
        batch: Batch on any device.
    """
    rows: Rows = {}
    for m, bag in batch.bags.items():
        count = bag.mask.sum(1)
        total = torch.einsum("bnd,bn->bd", bag.features.float(), bag.mask.float())
        mean = (total / count.clamp_min(1).unsqueeze(1)).cpu().numpy()
        has_tokens = (count > 0).tolist()
        rows[f"{m}x"] = {p: mean[i] for i, p in enumerate(batch.patient_id) if has_tokens[i]}
    has_rna = batch.has_expression.tolist()
    for s, expression in batch.expression.items():
        genes = expression.float().cpu().numpy()
        rows[s] = {p: genes[i] for i, p in enumerate(batch.patient_id) if has_rna[i]}
    return rows


def join_rows(into: Rows, more: Rows) -> None:
    """Add the patients of another batch or process in place; a patient who is already present is replaced."""
    for name, patients in more.items():
        into.setdefault(name, {}).update(patients)


class CollectRows(PatientCollector[Rows]):
    """Keeps the rows of all tested patients; of the tiles, only their mean is kept."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.rows: Rows = {}

    def _collect(self, outputs: STEP_OUTPUT, batch: Batch) -> None:
        join_rows(self.rows, patient_rows(batch))

    def _collected(self) -> Rows:
        return self.rows

    def _merge(self, collected: list[Rows]) -> None:
        self.rows = {}
        for rows in collected:
            join_rows(self.rows, rows)
