"""Cross-fitted predictions of a backbone, which replace its output for the patients of its fit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dmml.backbone.fit_backbone import CrossFitted


class CrossFittedLookup:
    """Looks cross-fitted predictions up by patient.

    Args:
        patients: Patients of the fit, in the order of the predictions.
        cross_fitted: The predictions.
    """

    def __init__(self, patients: Sequence[str], cross_fitted: CrossFitted):
        self._row = {patient: row for row, patient in enumerate(patients)}
        self._parts, self._programs = cross_fitted.parts, cross_fitted.programs

    def has_all(self, patients: Sequence[str]) -> bool:
        """Whether predictions are stored for all of these patients."""
        return all(patient in self._row for patient in patients)

    def rows(self, patients: Sequence[str], reads_rna: Tensor) -> tuple[Tensor, dict[tuple[int, str], Tensor]]:
        """Return the parts (B, 3, q) and programs {(m, s): (B, P)} of the given patients.

        Args:
            patients: Ids of B patients.
            reads_rna: (B,) bool, whether a patient's RNA is read.
        """
        if self._parts.device != reads_rna.device:
            self._parts = self._parts.to(reads_rna.device)
            self._programs = {key: values.to(reads_rna.device) for key, values in self._programs.items()}
        index = torch.tensor([self._row[patient] for patient in patients], device=reads_rna.device)
        parts = self._parts[(~reads_rna).long(), index]
        return parts, {key: values[index] for key, values in self._programs.items()}
