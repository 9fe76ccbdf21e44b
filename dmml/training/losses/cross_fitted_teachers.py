"""Teachers that were fitted without the patients for whom they are used, so that they do not give memorised targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dmml.errors import InputError
from dmml.training.checkpointing.seen_patients import check_leak, patients_among
from dmml.training.teacher import SubspaceTeacher
from dmml.types import Batch, SubspaceOutput


class CrossFittedTeachers:
    """Replaces the teacher in a student's losses: each patient's row comes from a teacher that was fitted without them.

    A teacher stores salted hashes of the patients of its fit. The embeddings of separately fitted teachers
    lie in different spaces, so a student learns their predictions and programs but not their embeddings (`width` is
    None).

    Args:
        checkpoints: Paths of the teachers' checkpoints.
        patients: Returns the student's "train", "val" and "outer_test" patients.

    Raises:
        InputError: A training patient of the student was in the training of every teacher, or a teacher has seen a
            patient that chooses the student's epoch or tests it (`check_leak`).
    """

    width = None

    def __init__(self, checkpoints: Sequence[str | Path], patients: Callable[[str], list[str]]):
        self._teachers = []
        train = patients("train")
        self._teacher_of: dict[str, int] = {}
        for index, path in enumerate(checkpoints):
            teacher = SubspaceTeacher.load_from_checkpoint(path, map_location="cpu", weights_only=True)
            check_leak(path, teacher.fitted, patients)
            seen = set(patients_among(train, teacher.fitted["patients"]["train"]))
            self._teacher_of |= {patient: index for patient in train if patient not in seen}
            self._teachers.append(teacher.eval().requires_grad_(False))
        if seen_by_all := [patient for patient in train if patient not in self._teacher_of]:
            raise InputError(
                f"cross-fitting: {len(seen_by_all)} training patients (first: {seen_by_all[0]}) were in the training of every "
                "teacher; use teachers that each left out a part of them"
            )

    @property
    def fitted_each(self) -> list[dict[str, Any]]:
        """Fitted values of each teacher."""
        return [teacher.fitted for teacher in self._teachers]

    def to(self, device: torch.device) -> CrossFittedTeachers:
        """Move all teachers to a device, in place."""
        self._teachers = [teacher.to(device) for teacher in self._teachers]
        return self

    def __call__(self, batch: Batch) -> SubspaceOutput:
        """Return the output for a batch, with each patient's row from the teacher that was fitted without them."""
        teacher_of_row = torch.tensor([self._teacher_of[patient] for patient in batch.patient_id])
        first, *others = teacher_of_row.unique().tolist()
        joined = self._teachers[first](batch)
        for index in others:
            output = self._teachers[index](batch)
            joined = _combine_rows((teacher_of_row == index).to(output.logits.device), output, joined)
        return joined


def _combine_rows(rows: Tensor, output: SubspaceOutput, other: SubspaceOutput) -> SubspaceOutput:
    """Combine two outputs: rows where the mask (B,) is True come from the first, all others from the second."""

    def pick(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(rows[:, None], a, b)

    def each(a: dict, b: dict) -> dict:
        return {key: pick(a[key], b[key]) for key in a}

    return SubspaceOutput(
        logits=pick(output.logits, other.logits),
        logits_by_magnification=each(output.logits_by_magnification, other.logits_by_magnification),
        subspace_logits=each(output.subspace_logits, other.subspace_logits),
        embeddings=each(output.embeddings, other.embeddings),
        attention=each(output.attention, other.attention),
        programs=each(output.programs, other.programs),
        tissue_logits=each(output.tissue_logits, other.tissue_logits),
        tissue_attention=each(output.tissue_attention, other.tissue_attention),
        gene_attention=each(output.gene_attention, other.gene_attention),
        prototypes=each(output.prototypes, other.prototypes),
    )
