"""Base of modules that learn from a teacher: loads it, and adds its loss terms once distillation has begun."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dmml.data.encoder_match import check_same_encoder, describe_other_tiles
from dmml.errors import InputError
from dmml.networks.checkpoint import read_checkpoint
from dmml.training.checkpointing.seen_patients import patients_of_sources
from dmml.training.checkpointing.warm_start import take_missing_arguments
from dmml.training.deep_share import ShareScores
from dmml.training.losses.distillation import (
    FEATURE_DISTANCES,
    first_epoch,
    prediction_distance,
    program_distance,
    restart_patience,
)
from dmml.training.losses.teacher_outputs import TeacherOutputs
from dmml.training.losses.teacher_source import TeacherSource
from dmml.training.subspace_module import SubspaceModule
from dmml.training.teacher import SubspaceTeacher
from dmml.types import Batch, LossTerms, SubspaceOutput

if TYPE_CHECKING:
    from dmml.data.module import MultimodalDataModule


class TaughtModule(SubspaceModule):
    """Base of `SubspaceStudent`: loads a teacher and distils it.

    Args:
        teacher: Checkpoint of a `SubspaceTeacher`; None = no distillation, so that only the other losses are minimised.
            The teacher's genes, programs and task, with its edges or classes, are used where none are given.
        distill_after: Share of the planned epochs, at least 0 and below 1, that pass before distillation begins. Until
            then, the loss has no terms of the teacher. 0 distils from the start.
        temperature: Temperature T of the softened predictions.
        soften_student: Whether the student's predictions are softened as well, and the divergence is multiplied by T²;
            false softens the teacher alone, without T² (eq. 13 of the paper).
        prediction_weight: Weight of the softened divergence from the teacher's predictions.
        feature_weight: Weight of the distance to the teacher's embeddings.
        feature_distance: "direction" compares the embeddings after layer norm, subspace by subspace; "squared" is
            ‖X̂ − X‖² of a magnification's joined embeddings [X^T; X^E] (eq. 14 of the paper).
        teacher_program_weight: Weight of the distance to the teacher's predicted programs. Beside the measured ones,
            which a student learns as well, they had no effect (docs/results/ablation.md).
        shared: Arguments of `SubspaceModule` and `FittedModule`.

    Raises:
        InputError: `distill_after` is not a share of a fit, or `feature_distance` is unknown.
    """

    def __init__(
        self,
        teacher: str | None = None,
        distill_after: float = 0.2,
        temperature: float = 2.0,
        soften_student: bool = True,
        prediction_weight: float = 1.0,
        feature_weight: float = 0.3,
        feature_distance: str = "direction",
        teacher_program_weight: float = 0.0,
        **shared: Any,
    ):
        super().__init__(**shared)
        if not 0 <= distill_after < 1:
            raise InputError(
                f"model.distill_after: {distill_after} is not a share of a fit; give a number from 0 to below 1"
            )
        if feature_distance not in FEATURE_DISTANCES:
            raise InputError(
                f"model.feature_distance: {feature_distance!r} is unknown; use one of {', '.join(FEATURE_DISTANCES)}"
            )
        self.teacher_path = teacher
        self.temperature, self.soften_student, self.distill_after = temperature, soften_student, distill_after
        self.prediction_weight, self.feature_weight = prediction_weight, feature_weight
        self.feature_distance = feature_distance
        self.teacher_program_weight = teacher_program_weight
        # The checkpoint's teacher, and the source that replaces it for training patients. Tuples keep both out of this
        # module's state. Empty before `setup("fit")` and `use_teacher`.
        self._teacher: tuple[SubspaceTeacher, ...] = ()
        self._training_source: tuple[TeacherSource, ...] = ()
        self._cached_outputs: TeacherOutputs | None = None

    def _inherit(self) -> None:
        """Load the teacher, take its gene lists and task arguments where none were given, and check that it matches."""
        if self.teacher_path is not None:
            self._inherit_from_teacher(self.teacher_path)
        super()._inherit()  # fills in what the teacher does not provide

    def _inherit_from_teacher(self, path: str) -> None:
        hparams = read_checkpoint(path)["hyper_parameters"]
        if not str(hparams.get("_class_path", "")).endswith(SubspaceTeacher.__name__) and "fusion" not in hparams:
            raise InputError(f"{path}: contains a {hparams.get('_class_path')}; model.teacher needs a SubspaceTeacher")
        teacher = SubspaceTeacher.load_from_checkpoint(path, map_location="cpu", weights_only=True)
        self._teacher = (teacher.eval().requires_grad_(False),)
        if not self.task_is_given:
            self.task = copy.deepcopy(teacher.task)
        take_missing_arguments(self, hparams)
        if self.genes == teacher.genes and self.programs is None:
            self.programs = teacher.programs
        if self.genes and (self.genes, self.programs) != (teacher.genes, teacher.programs):
            raise InputError(
                f"{path}: the teacher's genes or programs differ from the student's (model.genes, model.programs); leave "
                "both out, and the student takes the teacher's"
            )
        self._check_task(teacher)

    def _check_task(self, teacher: SubspaceTeacher) -> None:
        of_student, of_teacher = self.task.init_args(), teacher.task.init_args()
        names = ("edges", "classes", "n_intervals", "mean", "sd")
        differ = [name for name in names if of_student.get(name) != of_teacher.get(name)]
        if type(self.task) is not type(teacher.task) or differ:
            raise InputError(
                f"{self.teacher_path}: the teacher's task is {teacher.task.kind} {of_teacher}, the student's "
                f"{self.task.kind} {of_student}; "
                "leave edges, classes, mean and sd out of the student's task, or train a teacher with them"
            )

    def fit_to_data(self, data: MultimodalDataModule | None) -> None:
        """As in the base class; a teacher must be able to read the data, and provides the statistics of RNA."""
        super().fit_to_data(data)
        if data is not None and self._teacher:
            (teacher,) = self._teacher
            if data.store is not None and teacher.n_features:  # the teacher reads the slides of the student's patients
                path = f"{data.features or data.store.path}, which the teacher {self.teacher_path} is to read"
                check_same_encoder(path, data.store, teacher.n_features, teacher.fitted)
                if difference := describe_other_tiles(data.store, teacher.fitted):
                    data.log_line(f"{path}: {difference}", logging.WARNING)
            # The teacher needs RNA that is standardised as in its own fit; the student uses the teacher's gene lists.
            self.fitted["gene_statistics"] = teacher.fitted.get("gene_statistics", {})

    def _sources(self) -> dict[str, dict[str, Any]]:
        sources = super()._sources()
        return sources if self.teacher_path is None else sources | {self.teacher_path: self._teacher[0].fitted}

    def use_teacher(self, source: TeacherSource) -> None:
        """Learn the training patients from another source of outputs; call this after `setup("fit")`.

        All other patients keep the checkpoint's teacher. The patients of the new teachers are added to those that the
        student's checkpoint records.
        """
        self._training_source, self._cached_outputs = (source,), None
        if "patients" in self.fitted:
            before = [{"patients": each} for each in self.fitted["patients"].get("before", {}).values()]
            self.fitted["patients"]["before"] = patients_of_sources(*before, *source.fitted_each)
            self._keep_hparams()

    @property
    def _training_teacher(self) -> TeacherSource:
        """The source of the outputs from which training patients are learned."""
        return self._training_source[0] if self._training_source else self._teacher[0]

    @property
    def distils(self) -> bool:
        """Whether the loss has the teacher's terms: with a teacher always, but in a fit only after `distill_after`."""
        if self.teacher_path is None:
            return False
        if self._trainer is None or self._trainer.state.fn != "fit":
            return True
        return self.trainer.current_epoch >= first_epoch(self.trainer, self.distill_after)

    def on_train_epoch_start(self) -> None:
        """Restart the patience of early stopping when distillation begins."""
        if self.teacher_path is not None and self.trainer.current_epoch == first_epoch(
            self.trainer, self.distill_after
        ):
            restart_patience(self.trainer)

    def cache_teacher_outputs(self, batches: Iterable[Batch]) -> None:
        """Compute the teacher's outputs for patients once; later steps look them up.

        A fit calls this itself, with the training patients of its data module, when distillation begins.

        Args:
            batches: Batches in which each patient occurs once, with all tokens.
        """
        self._cached_outputs = TeacherOutputs(self._training_teacher.to(self.device), batches, self.device)

    def on_fit_end(self) -> None:
        """Drop the stored outputs, because the next fit may have other patients."""
        super().on_fit_end()
        self._cached_outputs = None
        for teacher in self._teacher:
            teacher.on_fit_end()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """As in the base class; the first distilling step computes the teacher's outputs for all training patients."""
        data = self._data_module
        if self._cached_outputs is None and self.distils and data is not None:
            self.cache_teacher_outputs(data.train_patients_in_order())
        return super().training_step(batch, batch_idx)

    def losses(self, batch: Batch) -> LossTerms:
        """Compute the terms of the base class and the teacher's terms."""
        if self.teacher_path is not None and not self._teacher:
            raise RuntimeError('the teacher is not loaded yet: call student.setup("fit") first')
        return self._terms(batch, self(batch))

    def _terms(self, batch: Batch, output: SubspaceOutput) -> LossTerms:
        terms = super()._terms(batch, output)
        if not self.distils:
            return terms
        answer = self._teacher_output(batch)
        shared = [m for m in self.magnifications if m in answer.logits_by_magnification]
        available = self._available(batch)
        rows = {m: available[self.magnifications.index(m)] for m in shared}
        parts = {"distill_prediction": prediction_distance(self._divergence, output, answer, rows)}
        total = terms.total + self.prediction_weight * parts["distill_prediction"]
        if self.width == self._training_teacher.width and self.feature_weight:
            parts["distill_features"] = FEATURE_DISTANCES[self.feature_distance](output, answer, rows)
            total = total + self.feature_weight * parts["distill_features"]
        if self.teacher_program_weight and any(self.scores.sizes.values()):
            parts["distill_programs"] = program_distance(output, answer, rows)
            total = total + self.teacher_program_weight * parts["distill_programs"]
        return LossTerms(total, terms.parts | parts)

    @torch.no_grad()
    def _teacher_output(self, batch: Batch) -> SubspaceOutput:
        """Return the teacher's stored output, or compute it if the batch has a patient without one."""
        cached = None if self._cached_outputs is None else self._cached_outputs(batch)
        return self._training_teacher.to(batch.has_expression.device)(batch) if cached is None else cached

    @torch.no_grad()
    def _teacher_of_validation(self, batch: Batch) -> SubspaceOutput:
        """Return the checkpoint's teacher's output, with its backbone's cross-fitted predictions where it has them."""
        return self._teacher[0].to(batch.has_expression.device)(batch)

    def _divergence(self, student: Tensor, teacher: Tensor) -> Tensor:
        t = self.temperature
        if self.soften_student:
            return self.task.divergence(student, teacher, t)
        # A task divides both sides by T and multiplies by T², which is undone here for the student and for the factor.
        return self.task.divergence(student * t, teacher, t) / t**2

    # ---- the share of the deep part ------------------------------------------------------------------------------

    def _share_scores(self, batch: Batch, output: SubspaceOutput, logits: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Add the agreement with the teacher, over patients whose RNA it has read, to the scores of the base class.

        A single outcome per patient carries little information, while a teacher's prediction is as informative for a
        censored patient as for any other.
        """
        scores = super()._share_scores(batch, output, logits)
        if self.teacher_path is not None:
            answer = self._teacher_of_validation(batch).logits
            divergence = torch.stack([self._divergence(each, answer) for each in logits])
            scores["agreement"] = (-divergence, batch.has_expression & self._available(batch).any(0))
        return scores

    def _choose_share(self, share_scores: dict[str, ShareScores]) -> int:
        """Choose by agreement with the teacher, unless the likelihood is clearly worse at that share."""
        if "agreement" not in share_scores or share_scores["agreement"].n < 2:
            return super()._choose_share(share_scores)
        return share_scores["agreement"].choose(guard=share_scores["likelihood"])

    def _validation_loss(self, share_scores: dict[str, ShareScores], index: int) -> Tensor:
        """Return (): negative log-likelihood plus weighted divergence from the teacher, both at the chosen share."""
        loss = super()._validation_loss(share_scores, index)
        return (
            loss - self.prediction_weight * share_scores["agreement"].mean[index]
            if "agreement" in share_scores
            else loss
        )
