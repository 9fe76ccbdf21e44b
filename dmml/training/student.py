"""The student, which reads histology alone and learns from a teacher that also reads RNA."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from dmml.errors import InputError
from dmml.nn.aggregator import TokenAggregator
from dmml.nn.projection import fork, program_embedding
from dmml.training.backbone_data import patients_of_fit
from dmml.training.checkpointing.seen_patients import patients_seen
from dmml.training.checkpointing.warm_start import copy_matching_weights
from dmml.training.parts.programs import ProgramScores
from dmml.training.taught_module import TaughtModule
from dmml.types import SUBSPACES, Batch, SubspaceOutput


class SubspaceStudent(TaughtModule):
    """Transcriptome-agnostic student with token aggregation per subspace and distillation from a teacher.

    Args:
        n_merged: Merged tokens per subspace and magnification (1 in the paper); None turns aggregation off.
        program_weight: As in `SubspaceModule`.
        lr: As in `FittedModule`.
        shared: Arguments of `TaughtModule` (the teacher), `SubspaceModule` and `FittedModule`.

    Source: contributions 3 and 4 of the paper.
    """

    def __init__(self, n_merged: int | None = 8, program_weight: float = 10.0, lr: float = 2e-3, **shared: Any):
        super().__init__(program_weight=program_weight, lr=lr, **shared)
        self.n_merged = n_merged
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
        self.aggregator = nn.ModuleDict(
            {f"{m}x": TokenAggregator(self.width, self.n_merged) for m in self.magnifications}
        )

    def _build_programs(self) -> None:
        self.scores = ProgramScores(self.genes, self.programs)
        sizes = {key: self.scores.sizes[key.split("_")[1]] for key in self._slots()}
        self.reading = nn.ModuleDict({key: nn.Linear(self.width, size) for key, size in sizes.items() if size})
        # Expression is learned from the measurements of all genes, but the outcome from one number per patient. Where
        # there are programs, the embedding therefore depends on them alone, so that a small cohort cannot be memorised.
        self.embed = nn.ModuleDict(
            {key: program_embedding(size, self.width, self.tissue_rank) for key, size in sizes.items()}
        )

    def forward(self, batch: Batch) -> SubspaceOutput:
        """Compute the `SubspaceOutput` of a batch from tissue alone."""
        bags = {m: self._bag(batch, m) for m in self.magnifications}
        reader, statistics = self._backbone_statistics(batch), {}
        tissue, attention, specific = {}, {}, {}
        for m, bag in bags.items():
            tokens, specific[m], statistics[m] = self._read_features(m, bag, reader)
            own = dict(zip(SUBSPACES, fork(tokens, self._shared_rule), strict=True))
            embedded, shares = self.aggregator[f"{m}x"](own, bag)
            tissue |= {(m, s): embedded[s] for s in SUBSPACES}
            attention |= {(m, s): shares[s] for s in SUBSPACES}
        backbone = self._backbone_output(batch, bags, torch.zeros_like(batch.has_expression), statistics)
        base = {} if backbone is None else backbone.programs
        embeddings, programs = {}, {}
        for (m, s), embedded in tissue.items():
            key, there = f"{m}x_{s}", bags[m].mask.any(1, keepdim=True)
            known = key in self.reading
            programs[m, s] = self.reading[key](embedded) * there if known else embedded[:, :0]
            through = programs[m, s] + base[m, s] if (m, s) in base else programs[m, s]
            embeddings[m, s] = self.embed[key](through if known else embedded) * there
        return self._finish(batch, embeddings, attention, programs, specific, backbone)

    def setup(self, stage: str) -> None:
        """As in the base class; a fit with a teacher, unless `init_from` is given, starts from the teacher's weights.

        These are the layers that both models have: from tissue to programs, and from programs to the outcome.
        """
        super().setup(stage)
        if stage == "fit" and self.teacher_path is not None and not self.init_from:
            copy_matching_weights(self, self.teacher_path, self._teacher[0].state_dict())

    def fit_backbone(self, data: Any) -> None:
        """Copy the teacher's backbone without RNA, or fit a new one if no teacher has a backbone that matches."""
        teacher = self._teacher[0] if self._teacher and self._teacher[0].has_backbone else None
        matches = teacher is not None and teacher.n_features == self.n_features
        matches = matches and set(teacher.magnifications) == set(self.magnifications)
        if matches:
            self.backbone.copy_without_rna(teacher.backbone)
            self.fitted["backbone"] = self.backbone.layout
        else:
            super().fit_backbone(data)
        patients = patients_of_fit(data)
        if teacher is None or not patients_seen(patients, patients, teacher.fitted):
            return
        # The teacher's backbone has seen these patients' outcomes. Fitting it once more gives cross-fitted predictions,
        # each from a fit without the patient.
        module = self if matches else teacher
        scores = module.scores if any(teacher.backbone.layout["programs"].values()) else None
        module._cross_fit(data, copy.deepcopy(teacher.backbone), with_rna=True, scores=scores)
        if matches:
            teacher.share_cross_fitted(self)

    def _reads_rna(self) -> bool:
        return False

    def _predicts_programs(self) -> bool:
        return bool(self.program_weight)
