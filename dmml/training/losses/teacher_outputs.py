"""A teacher's outputs for the training patients, computed once in a fit instead of at every step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from dmml.types import Batch, SubspaceOutput


class TeacherOutputs:
    """Stores logits, embeddings and programs of a teacher, one row per patient.

    Attention, prototypes and the parts of the logits are not stored, because no student learns them. A frozen teacher in evaluation mode gives the same output at every step, up to rounding: the last bits depend on the
    patients that share a batch. Outputs that are computed once, in batches that do not depend on the epoch, are the
    same at every step and in a resumed run. The teacher reads all of a patient's tokens, even if `max_tokens` limits
    the student's.

    Args:
        teacher: Computes the output of a batch.
        batches: Batches in which each patient occurs once.
        device: Device on which the outputs are computed and kept.
    """

    def __init__(self, teacher: Callable[[Batch], SubspaceOutput], batches: Iterable[Batch], device: torch.device):
        self._row: dict[str, int] = {}
        outputs = []
        # Loaders draw a seed from the CPU generator; restoring its state lets a resumed run draw the same numbers.
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            for batch in batches:
                output = teacher(move_data_to_device(batch, device))
                self._row |= {patient: len(self._row) + i for i, patient in enumerate(batch.patient_id)}
                outputs.append((output.logits, output.logits_by_magnification, output.embeddings, output.programs))
        logits, *parts = zip(*outputs, strict=True)
        self._logits = torch.cat(logits)
        self._by_magnification, self._embeddings, self._programs = (_join_magnifications(part) for part in parts)

    def __call__(self, batch: Batch) -> SubspaceOutput | None:
        """Return the rows of a batch's patients; None if the outputs of one of them are not stored."""
        rows = [self._row.get(patient) for patient in batch.patient_id]
        if None in rows:
            return None
        index = torch.tensor(rows, device=self._logits.device)
        by_magnification, embeddings, programs = (
            {key: values[index] for key, values in part.items()}
            for part in (self._by_magnification, self._embeddings, self._programs)
        )
        return SubspaceOutput(self._logits[index], by_magnification, {}, embeddings, {}, programs)


def _join_magnifications(parts: Iterable[Mapping[Any, Tensor]]) -> dict[Any, Tensor]:
    """Concatenate the rows of all batches for each key."""
    parts = list(parts)
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
