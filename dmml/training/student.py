"""The student: histology alone at the input, taught by a teacher that also saw the RNA."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from dmml.backbone.backbone import Backbone
from dmml.errors import InputError
from dmml.functional.consistency import expression_consistency
from dmml.nn.aggregator import TokenAggregator
from dmml.nn.projection import fork, program_embedding
from dmml.tasks import Survival, Task
from dmml.training.checkpoint import adopt, patients_seen, read_checkpoint, seen_before, start_from
from dmml.training.cross_fitted import CrossFittedTeachers
from dmml.training.programs import ProgramScores
from dmml.training.subspace_module import SubspaceModule
from dmml.training.teacher import SubspaceTeacher
from dmml.types import SUBSPACES, Batch, LossTerms, SubspaceOutput


class SubspaceStudent(SubspaceModule):
    """Transcriptome-agnostic student: token aggregation per subspace, and distillation from a teacher.

    Args:
        n_features: D of the encoder; None = from the data at fit.
        task: What is predicted; None = the teacher's task, else survival. A teacher's edges or classes are taken over
            where none are given.
        width: d.
        magnifications: The magnifications that the model reads.
        teacher: Checkpoint of a `SubspaceTeacher`; None = task loss (and programs, where there is RNA) alone.
        genes: As in `SubspaceTeacher`; a teacher's lists are taken over where none are given.
        programs: As in `SubspaceTeacher`.
        n_merged: Merged tokens a subspace and magnification (the paper's: 1); None turns aggregation off.
        temperature: T of the softened predictions.
        prediction_weight: Weight of the softened divergence from the teacher's predictions.
        feature_weight: Weight of the distance to the teacher's embeddings, subspace by subspace.
        teacher_program_weight: Weight of the distance to the teacher's predicted programs.
        consistency: As in `SubspaceTeacher`.
        consistency_weight: As in `SubspaceTeacher`.
        program_weight: As in `SubspaceTeacher`.
        decorrelation_weight: As in `SubspaceTeacher`.
        backbone: As in `SubspaceTeacher`; a student under a teacher takes over the teacher's, without RNA.
        tissue_specific: As in `SubspaceTeacher`.
        tissue_rank: Dimensions through which the tissue enters an embedding where there are no programs.
        token_dropout: Dropout of the tokens.
        embedding_dropout: Dropout of the embeddings before the heads.
        lr: Learning rate of AdamW at its height.
        weight_decay: Weight decay of AdamW.
        warmup: Share of the steps in which the learning rate rises; then it falls along a cosine.
        init_from: Checkpoint to take weights from: a student pre-trained without a teacher, or fine-tuning.
        compile: As in `SubspaceTeacher`.
        fitted: Filled at fit and kept in the checkpoint; leave it empty.

    Source: contributions 3 and 4 of the paper.
    """

    def __init__(
        self,
        n_features: int | None = None,
        task: Task | None = None,
        width: int = 128,
        magnifications: tuple[int, ...] | list[int] = (10, 20),
        teacher: str | None = None,
        genes: dict | None = None,
        programs: dict | None = None,
        n_merged: int | None = 8,
        temperature: float = 2.0,
        prediction_weight: float = 1.0,
        feature_weight: float = 0.3,
        teacher_program_weight: float = 0.3,
        consistency: str = "expression",
        consistency_weight: float = 0.1,
        program_weight: float = 10.0,
        decorrelation_weight: float = 0.05,
        backbone: Callable[[], Backbone] | None = Backbone,
        tissue_specific: bool = True,
        tissue_rank: int = 8,
        token_dropout: float = 0.1,
        embedding_dropout: float = 0.25,
        lr: float = 2e-3,
        weight_decay: float = 0.01,
        warmup: float = 0.1,
        init_from: str | None = None,
        compile: bool = False,
        fitted: dict | None = None,
    ):
        task_given = task is not None
        task = task or Survival()
        super().__init__(
            n_features=n_features,
            genes=genes,
            task=task,
            width=width,
            magnifications=magnifications,
            programs=programs,
            consistency=consistency,
            consistency_weight=consistency_weight,
            program_weight=program_weight,
            decorrelation_weight=decorrelation_weight,
            backbone=backbone,
            tissue_specific=tissue_specific,
            tissue_rank=tissue_rank,
            token_dropout=token_dropout,
            embedding_dropout=embedding_dropout,
            lr=lr,
            weight_decay=weight_decay,
            warmup=warmup,
            init_from=init_from,
            compile=compile,
            fitted=fitted,
        )
        self.save_hyperparameters(logger=False)
        self.n_merged, self.temperature = n_merged, temperature
        self.prediction_weight, self.feature_weight = prediction_weight, feature_weight
        self.teacher_program_weight = teacher_program_weight
        self.teacher_path = teacher
        self._task_given = task_given
        self._teacher: tuple[SubspaceTeacher, ...] = ()  # in a tuple, so that it is no part of this module's state
        self._build_if_known()
        self._keep_hparams()

    def _build_if_known(self) -> None:
        """As in the base; without a Trainer, a student that has neither genes nor a teacher has no programs."""
        alone = self._trainer is None and self.teacher_path is None and self.init_from is None
        if alone and self.genes is None and self.n_features is not None:
            self.genes = {}
            super()._build_if_known()
            self.genes = None
        else:
            super()._build_if_known()

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
        # What the tissue says of expression is learned from every gene's measurement, the outcome from one number a
        # patient: where there are programs the embedding stands on them alone, and few patients cannot be learned by
        # heart past them.
        self.embed = nn.ModuleDict(
            {key: program_embedding(size, self.width, self.tissue_rank) for key, size in sizes.items()}
        )

    def forward(self, batch: Batch) -> SubspaceOutput:
        """See `SubspaceOutput`; reads tissue alone."""
        bags = {m: self._bag(batch, m) for m in self.magnifications}
        backbone = self._backbone_output(batch, bags, torch.zeros_like(batch.has_expression))
        base = {} if backbone is None else backbone.programs
        embeddings, attention, programs, specific = {}, {}, {}, {}
        for m, bag in bags.items():
            tokens, specific[m] = self._read_features(m, bag)
            own = dict(zip(SUBSPACES, fork(tokens, self._shared_rule), strict=True))
            tissue, shares = self.aggregator[f"{m}x"](own, bag)
            there = bag.mask.any(1, keepdim=True)
            for s in SUBSPACES:
                key = f"{m}x_{s}"
                known = key in self.reading
                programs[m, s] = self.reading[key](tissue[s]) * there if known else tissue[s][:, :0]
                through = programs[m, s] + base[m, s] if (m, s) in base else programs[m, s]
                embeddings[m, s] = self.embed[key](through if known else tissue[s]) * there
                attention[m, s] = shares[s]
        return self._finish(batch, embeddings, attention, programs, specific, backbone)

    def setup(self, stage: str) -> None:
        """As in the base; a student begins with the teacher's reading of tissue, and its way from programs to outcome."""
        super().setup(stage)
        if stage == "fit" and self.teacher_path is not None and not self.init_from:
            start_from(self, self.teacher_path, self._teacher[0].state_dict())

    def fit_backbone(self, data: Any) -> None:
        """Take over the teacher's backbone, without RNA; fit one to outcomes where there is none to take."""
        teacher = self._teacher[0] if self._teacher else None
        same = teacher is not None and teacher.has_backbone and teacher.n_features == self.n_features
        if not same or set(teacher.magnifications) != set(self.magnifications):
            super().fit_backbone(data)
            return
        self.backbone.copy_without_rna(teacher.backbone)
        self.fitted["backbone"] = self.backbone.layout
        patients = [*data.patients("train"), *data.patients("val")]
        if patients_seen(patients, patients, teacher.fitted):
            # The teacher's backbone knows these patients' outcomes: what it would have said of each without that
            # patient is found by fitting it once more.
            self._cross_fit(data, copy.deepcopy(teacher.backbone), with_rna=True)

    def _reads_rna(self) -> bool:
        return False

    def _predicts_programs(self) -> bool:
        return bool(self.program_weight)

    # ---- distillation ------------------------------------------------------------------------------------------

    def _inherit(self) -> None:
        """Load the teacher, refuse one that would leak, and take its lists and edges."""
        if self.teacher_path is not None:
            self._inherit_from_teacher(self.teacher_path)
        super()._inherit()  # what the teacher leaves open

    def _inherit_from_teacher(self, path: str) -> None:
        hparams = read_checkpoint(path)["hyper_parameters"]
        if not str(hparams.get("_class_path", "")).endswith(SubspaceTeacher.__name__) and "fusion" not in hparams:
            raise InputError(f"{path}: holds a {hparams.get('_class_path')}, no SubspaceTeacher (model.teacher)")
        teacher = SubspaceTeacher.load_from_checkpoint(path, map_location="cpu", weights_only=True)
        self._teacher = (teacher.eval().requires_grad_(False),)
        if not self._task_given:
            self.task = copy.deepcopy(teacher.task)
        adopt(self, hparams)
        if self.genes == teacher.genes and self.programs is None:
            self.programs = teacher.programs
        if self.genes and (self.genes, self.programs) != (teacher.genes, teacher.programs):
            raise InputError(
                f"{path}: the teacher reads other genes or programs than the student's genes name (model.genes); "
                "leave them out, and the student takes the teacher's"
            )
        self._refuse_other_task(teacher)

    def _refuse_other_task(self, teacher: SubspaceTeacher) -> None:
        own, theirs = self.task.init_args(), teacher.task.init_args()
        differ = [name for name in ("edges", "classes", "n_intervals") if own.get(name) != theirs.get(name)]
        if type(self.task) is not type(teacher.task) or differ:
            raise InputError(
                f"{self.teacher_path}: the teacher's task is {teacher.task.kind} {theirs}, the student's {self.task.kind} {own}; "
                "give the student's task no edges or classes of its own, or train a teacher for it"
            )

    def _fit_to(self, data: Any) -> None:
        super()._fit_to(data)
        if self._teacher:
            # The teacher reads RNA as it was standardised for it; the student's own lists are the teacher's.
            self.fitted["gene_statistics"] = self._teacher[0].fitted.get("gene_statistics", {})

    def _sources(self) -> dict[str, dict[str, Any]]:
        own = super()._sources()
        return own if self.teacher_path is None else own | {self.teacher_path: self._teacher[0].fitted}

    def use_teacher(self, teacher: SubspaceTeacher | CrossFittedTeachers) -> None:
        """Learn from another source of outputs than the checkpoint's teacher; call it after `setup("fit")`.

        The patients of the new teachers are added to those that the student's checkpoint records.
        """
        self._teacher = (teacher,)
        if "patients" in self.fitted:
            before = [{"patients": each} for each in self.fitted["patients"].get("before", {}).values()]
            own = teacher.fitted_each if isinstance(teacher, CrossFittedTeachers) else [teacher.fitted]
            self.fitted["patients"]["before"] = seen_before(*before, *own)
            self._keep_hparams()

    def losses(self, batch: Batch) -> LossTerms:
        """Task, programs, consistency, and what the teacher says."""
        if self.teacher_path is not None and not self._teacher:
            raise RuntimeError('the teacher is not loaded yet: call student.setup("fit") first')
        return self._terms(batch, self(batch))

    def _terms(self, batch: Batch, output: SubspaceOutput) -> LossTerms:
        terms = super()._terms(batch, output)
        if self.teacher_path is None:
            return terms
        teacher = self._teacher[0].to(output.logits.device)
        with torch.no_grad():
            told = teacher(batch)
        shared = [m for m in self.magnifications if m in told.logits_by_magnification]
        available = self._available(batch)
        rows = {m: available[self.magnifications.index(m)] for m in shared}
        pairs = [(m, s) for m in shared for s in SUBSPACES]
        parts = {"distill_prediction": self._prediction_distance(output, told, shared, rows)}
        total = terms.total + self.prediction_weight * parts["distill_prediction"]
        if self.width == teacher.width and self.feature_weight:
            values = [
                _mean_over(_feature_distance(output.embeddings[p], told.embeddings[p]), rows[p[0]]) for p in pairs
            ]
            parts["distill_features"] = torch.stack(values).mean()
            total = total + self.feature_weight * parts["distill_features"]
        if self.teacher_program_weight and any(self.scores.sizes.values()):
            values = [
                _mean_over(expression_consistency(output.programs[p], told.programs[p]), rows[p[0]]) for p in pairs
            ]
            parts["distill_programs"] = torch.stack(values).mean()
            total = total + self.teacher_program_weight * parts["distill_programs"]
        return LossTerms(total, terms.parts | parts)

    def _prediction_distance(
        self, output: SubspaceOutput, told: SubspaceOutput, shared: list[int], rows: dict[int, Tensor]
    ) -> Tensor:
        """Softened divergence from the teacher, magnification by magnification and combined."""
        values = [_mean_over(self._divergence(output.logits, told.logits), torch.stack(list(rows.values())).any(0))]
        for m in shared:
            apart = self._divergence(output.logits_by_magnification[m], told.logits_by_magnification[m])
            values.append(_mean_over(apart, rows[m]))
        return torch.stack(values).mean()

    def _divergence(self, own: Tensor, theirs: Tensor) -> Tensor:
        return self.task.divergence(own, theirs, self.temperature)


def _mean_over(values: Tensor, rows: Tensor) -> Tensor:
    """Mean of (B,) over the patients of a mask; 0 where it names none. By weights: an index would make a GPU wait."""
    return (values * rows).sum() / rows.sum().clamp_min(1)


def _feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared distance of two embeddings after layer norm: direction is taught, scale is not. → (B,)."""
    width = student.shape[1:]
    return (layer_norm(student.float(), width) - layer_norm(teacher.float(), width)).square().mean(1)
