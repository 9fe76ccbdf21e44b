"""What a student needs of a source of teacher outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from dmml.types import Batch, SubspaceOutput


class TeacherSource(Protocol):
    """Gives a student the outputs from which it learns its training patients.

    `SubspaceTeacher` is one, `CrossFittedTeachers` another. A source of your own, such as the mean of two teachers, is a
    class with these members. A callback hands it to the student after `setup("fit")`, as `LearnFrom` in
    `dmml/experiment/crossval/teachers.py` does: `student.use_teacher(source)`.
    """

    @property
    def width(self) -> int | None:
        """Width of the embeddings, which students of the same width learn; None if there are none to be learned."""

    @property
    def fitted_each(self) -> Sequence[Mapping[str, Any]]:
        """Fitted values (`FittedModule.fitted`) of each teacher, whose patients the student's checkpoint records."""

    def to(self, device: torch.device) -> TeacherSource:
        """Move all teachers to a device."""

    def __call__(self, batch: Batch) -> SubspaceOutput:
        """Return the output for a batch of training patients. Teachers are in evaluation mode and without gradients."""
