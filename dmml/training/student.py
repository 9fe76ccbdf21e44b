"""The student, which reads histology alone and learns from a teacher that also reads RNA."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from dmml.networks.student_network import StudentNetwork
from dmml.training.backbone_data import patients_of_fit
from dmml.training.checkpointing.seen_patients import patients_seen
from dmml.training.checkpointing.warm_start import copy_matching_weights
from dmml.training.taught_module import TaughtModule

if TYPE_CHECKING:
    from dmml.backbone.backbone import Backbone
    from dmml.data.module import MultimodalDataModule
    from dmml.training.subspace_module import SubspaceModule


class SubspaceStudent(TaughtModule, StudentNetwork):
    """Transcriptome-agnostic student with token aggregation per subspace and distillation from a teacher.

    Args:
        start_from_teacher: Whether a fit with a teacher starts from the teacher's weights where both models have the
            same layers; `init_from` takes precedence.
        program_weight: As in `SubspaceModule`.
        lr: As in `FittedModule`.
        shared: Arguments of `StudentNetwork`, and of the training: `TaughtModule` (the teacher), `SubspaceModule` and
            `FittedModule`.

    Source: contributions 3 and 4 of the paper.
    """

    def __init__(self, start_from_teacher: bool = True, program_weight: float = 10.0, lr: float = 2e-3, **shared: Any):
        super().__init__(program_weight=program_weight, lr=lr, **shared)
        self.start_from_teacher = start_from_teacher
        self._record_classes(aggregator=self._aggregator_factory)
        self._finish_init()

    @property
    def _may_lack_genes(self) -> bool:
        """As in the base class, but not if a Trainer's data, a teacher or `init_from` can provide gene lists."""
        return self._trainer is None and self.teacher_path is None and self.init_from is None

    def setup(self, stage: str) -> None:
        """As in the base class; a fit with a teacher starts from the teacher's weights, unless arguments say otherwise.

        These are the layers that both models have: from tissue to programs, and from programs to the outcome.
        """
        super().setup(stage)
        if stage == "fit" and self.teacher_path is not None and self.start_from_teacher and not self.init_from:
            copy_matching_weights(self, self.teacher_path, self._teacher[0].state_dict())

    def fit_backbone(self, data: MultimodalDataModule) -> None:
        """Copy the teacher's backbone without RNA, or fit a new one if no teacher has a backbone that matches."""
        teacher = self._teacher[0] if self._teacher and self._teacher[0].has_backbone else None
        if teacher is None:
            super().fit_backbone(data)
            return
        of_teacher = teacher._require_backbone()
        matches = self._matches(teacher)
        if matches:
            backbone = self._require_backbone()
            backbone.copy_without_rna(of_teacher)
            self.fitted["backbone"] = backbone.layout
        else:
            super().fit_backbone(data)
        patients = patients_of_fit(data)
        if not patients_seen(patients, patients, teacher.fitted):
            return
        # The teacher's backbone has seen these patients' outcomes. Fitting it once more gives cross-fitted predictions,
        # each from a fit without the patient.
        module = self if matches else teacher
        scores = teacher.scores if any(of_teacher.layout["programs"].values()) else None
        module._cross_fit(data, copy.deepcopy(of_teacher), with_rna=True, scores=scores)
        if matches:
            teacher.share_cross_fitted(self)

    def _backbone_of_training(self, data: MultimodalDataModule) -> Backbone:
        """As in the base class; a backbone copied from a teacher who was fitted to these patients is copied again."""
        teacher = self._teacher[0] if self._teacher and self._teacher[0].has_backbone else None
        if teacher is None or not self._matches(teacher):
            return super()._backbone_of_training(data)
        copied, of_teacher = copy.deepcopy(self._require_backbone()).cpu(), teacher._require_backbone()
        patients = patients_of_fit(data)
        if patients_seen(patients, patients, teacher.fitted):
            programs = any(of_teacher.layout["programs"].values())
            copied.copy_without_rna(self._refit(data, of_teacher, True, teacher.scores, programs))
        return copied

    def _matches(self, teacher: SubspaceModule) -> bool:
        """Whether a teacher's backbone reads the features that the student reads."""
        return teacher.n_features == self.n_features and set(teacher.magnifications) == set(self.magnifications)

    def _reads_rna(self) -> bool:
        return False

    def _predicts_programs(self) -> bool:
        return bool(self.program_weight) and not self._has_whole_embeddings
