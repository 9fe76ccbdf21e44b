"""The student, which reads histology alone and learns from a teacher that also reads RNA."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dmml.errors import InputError
from dmml.nn.aggregator import Aggregated, Aggregator, TokenAggregator
from dmml.nn.module_dict import TypedModuleDict
from dmml.nn.projection import fork, program_embedding
from dmml.training.backbone_data import patients_of_fit
from dmml.training.checkpointing.seen_patients import patients_seen
from dmml.training.checkpointing.warm_start import copy_matching_weights
from dmml.training.parts.output_parts import BySubspace, DeepParts
from dmml.training.parts.programs import ProgramScores
from dmml.training.taught_module import TaughtModule
from dmml.types import SUBSPACES, Batch, SubspaceOutput

if TYPE_CHECKING:
    from dmml.data.module import MultimodalDataModule


class SubspaceStudent(TaughtModule):
    """Transcriptome-agnostic student with token aggregation per subspace and distillation from a teacher.

    Args:
        n_merged: Merged tokens per subspace and magnification; None turns aggregation off. `PrototypeAggregator` needs 2,
            the paper's number of clusters.
        aggregator: Class of the aggregation, built as `aggregator(width, n_merged)` for every magnification; None =
            `TokenAggregator`. One whose result is the whole embedding (`is_whole_embedding`) makes a student without
            programs.
        start_from_teacher: Whether a fit with a teacher starts from the teacher's weights where both models have the
            same layers; `init_from` takes precedence.
        program_weight: As in `SubspaceModule`.
        lr: As in `FittedModule`.
        shared: Arguments of `TaughtModule` (the teacher), `SubspaceModule` and `FittedModule`.

    Source: contributions 3 and 4 of the paper.
    """

    def __init__(
        self,
        n_merged: int | None = 8,
        aggregator: Callable[[int, int | None], Aggregator] | None = None,
        start_from_teacher: bool = True,
        program_weight: float = 10.0,
        lr: float = 2e-3,
        **shared: Any,
    ):
        super().__init__(program_weight=program_weight, lr=lr, **shared)
        self.n_merged, self.start_from_teacher = n_merged, start_from_teacher
        self._aggregator_factory = self._class_or_default("aggregator", aggregator, TokenAggregator)
        self._finish_init()

    def _build_if_possible(self) -> None:
        """As in the base class; without a Trainer, a student without genes, teacher and `init_from` has no programs."""
        alone = self._trainer is None and self.teacher_path is None and self.init_from is None
        if alone and self.genes is None and self.n_features is not None:
            self.genes = {}
            super()._build_if_possible()
            self.genes = None
        else:
            super()._build_if_possible()

    def _build_parts(self) -> None:
        if not self.n_features:
            raise InputError(
                "a student reads tissue, and the data names no features; give data.features a feature store"
            )
        self.aggregator = TypedModuleDict[Aggregator](
            {f"{m}x": self._aggregator_factory(self.width, self.n_merged) for m in self.magnifications}
        )
        if self._has_whole_embeddings:
            self._build_programs()  # again, because now it is known that there are none

    @property
    def _has_whole_embeddings(self) -> bool:
        """Whether the aggregation gives whole embeddings, so that tissue passes through no programs."""
        return any(part.is_whole_embedding for part in getattr(self, "aggregator", {}).values())

    def _build_programs(self) -> None:
        if self._has_whole_embeddings:
            self.scores, self.program_readout, self.embed = ProgramScores({}, None), nn.ModuleDict(), nn.ModuleDict()
            return
        self.scores = ProgramScores(self.genes or {}, self.programs)
        sizes = {key: self.scores.sizes[key.split("_")[1]] for key in self._slots()}
        self.program_readout = nn.ModuleDict({key: nn.Linear(self.width, size) for key, size in sizes.items() if size})
        # Expression is learned from the measurements of all genes, but the outcome from one number per patient. Where
        # there are programs, the embedding therefore depends on them alone, so that a small cohort cannot be memorised.
        self.embed = nn.ModuleDict(
            {key: program_embedding(size, self.width, self.tissue_rank) for key, size in sizes.items()}
        )

    def forward(self, batch: Batch) -> SubspaceOutput:
        """Compute the `SubspaceOutput` of a batch from tissue alone."""
        bags = {m: self._bag(batch, m) for m in self.magnifications}
        statistics, deep = self._backbone_statistics(batch), DeepParts()
        aggregated: BySubspace = {}
        for m, bag in bags.items():
            aggregator = self.aggregator[f"{m}x"]
            tokens = aggregator.shared_tokens(self._read_tokens(m, bag, statistics, deep), bag)
            tokens_of = dict(zip(SUBSPACES, fork(tokens, self._shared_rule), strict=True))
            pooled = Aggregated(*aggregator(tokens_of, bag))  # a user's aggregation may give a pair
            aggregated |= {(m, s): pooled.embeddings[s] for s in SUBSPACES}
            deep.attention |= {(m, s): pooled.attention[s] for s in SUBSPACES}
            if pooled.prototypes is not None:
                deep.prototypes[m] = pooled.prototypes
        without_rna = torch.zeros_like(batch.has_expression)
        backbone = self._backbone_output(batch, bags, without_rna, deep.statistics)
        if self._has_whole_embeddings:
            deep.embeddings = aggregated
            deep.programs = {key: values[:, :0] for key, values in aggregated.items()}
            return self._finish(batch, deep, None if backbone is None else replace(backbone, programs={}))
        base = {} if backbone is None else backbone.programs
        for (m, s), tissue in aggregated.items():
            key, has_tokens = f"{m}x_{s}", bags[m].mask.any(1, keepdim=True)
            if key in self.program_readout:
                programs = self.program_readout[key](tissue) * has_tokens
                tissue = programs + base[m, s] if (m, s) in base else programs
            else:
                programs = tissue[:, :0]
            deep.programs[m, s] = programs
            deep.embeddings[m, s] = self.embed[key](tissue) * has_tokens
        return self._finish(batch, deep, backbone)

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
        same_magnifications = set(teacher.magnifications) == set(self.magnifications)
        matches = teacher.n_features == self.n_features and same_magnifications
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

    def _reads_rna(self) -> bool:
        return False

    def _predicts_programs(self) -> bool:
        return bool(self.program_weight) and not self._has_whole_embeddings
