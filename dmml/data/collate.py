"""Pads a list of patients into a `Batch`, with their expression and targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from dmml.data.dataset import Patient
from dmml.types import Bag, Batch


class Collate:
    """Pads patients into a `Batch` and adds their expression and targets.

    Args:
        magnifications: Keys of the bags; a magnification that no patient of a batch has is left out of the batch.
        patient_ids: Ids of the patients, in the row order of the following arguments.
        expression: {subspace: (patients, G)}.
        has_expression: (patients,) bool.
        target: {name: (patients,)} or empty.
        fill: {magnification: function of the padded features (B, N, D)}, for a store in which values may be missing.
    """

    def __init__(
        self,
        magnifications: Sequence[int],
        patient_ids: Sequence[str],
        expression: dict[str, Tensor],
        has_expression: Tensor,
        target: dict[str, Tensor],
        fill: Mapping[int, Callable[[Tensor], Tensor]] | None = None,
    ):
        self.magnifications = sorted(magnifications)
        self.row = {patient: row for row, patient in enumerate(patient_ids)}
        self.expression, self.has_expression, self.target = expression, has_expression, target
        self.fill = fill or {}

    def __call__(self, patients: list[Patient] | Patient) -> Batch:
        """Pad to the longest bag, with zeros (parents: −1); a single patient (`overfit_batches`) is a batch of one."""
        patients = [patients] if isinstance(patients, Patient) else patients
        rows = torch.tensor([self.row[patient.patient_id] for patient in patients])
        bags = {m: self._bag(patients, m) for m in self.magnifications if any(m in p.features for p in patients)}
        return Batch(
            patient_id=[patient.patient_id for patient in patients],
            bags=bags,
            parent=_pad([p.parent for p in patients], fill=-1).long(),
            expression={s: values[rows] for s, values in self.expression.items()},
            has_expression=self.has_expression[rows],
            target={name: values[rows] for name, values in self.target.items()},
        )

    def _bag(self, patients: list[Patient], m: int) -> Bag:
        width = next(p.features[m].shape[1] for p in patients if m in p.features)
        empty = np.zeros((0, width), dtype=np.float16)
        nowhere, no_slide = np.zeros((0, 2), dtype=np.float32), np.zeros(0, dtype=np.int64)
        features = _pad([p.features.get(m, empty) for p in patients])
        return Bag(
            features=self.fill[m](features) if m in self.fill else features,
            position=_pad([p.position.get(m, nowhere) for p in patients]),
            mask=_pad([np.ones(len(p.features.get(m, empty)), dtype=bool) for p in patients]),
            slide=_pad([p.slide.get(m, no_slide) for p in patients]).long(),
            n_slides=max(int(p.slide[m].max(initial=0)) + 1 for p in patients if m in p.slide),
        )


def _pad(arrays: list[np.ndarray], fill: int = 0) -> Tensor:
    """[(N_i, …)] → (B, max N_i, …) in a common type, since stores of float16 and float32 may be joined."""
    longest = max(len(array) for array in arrays)
    kind = np.result_type(*{array.dtype for array in arrays})
    padded = np.full((len(arrays), longest, *arrays[0].shape[1:]), fill, dtype=kind)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return torch.from_numpy(padded)
