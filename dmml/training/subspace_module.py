"""Base of teacher and student: parts per magnification and subspace, steps, loss terms and fitted values."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from dmml.backbone.backbone import Backbone
from dmml.backbone.slide_statistics import SlideStatistics
from dmml.cohort.magnifications import choose_magnifications
from dmml.data.fitting import fit_task
from dmml.errors import InputError
from dmml.nn.heads import ProgramHead, SubspaceHead
from dmml.nn.projection import TokenProjection
from dmml.nn.standardised import set_feature_statistics
from dmml.nn.tissue import TissueSpecificHead
from dmml.tasks import Task
from dmml.training.backbone_module import BackboneModule
from dmml.training.checkpointing.checkpoint import (
    adopt,
    class_config,
    hash_patients,
    read_checkpoint,
    refuse_leak,
    seen_before,
    start_from,
)
from dmml.training.checkpointing.packing import pack, unpack
from dmml.training.compilation import compile_parts
from dmml.training.losses.confidence import confidence_sums
from dmml.training.losses.loss_terms import CONSISTENCIES, weighted_terms
from dmml.training.optimisation import adamw_with_cosine
from dmml.training.parts.bags import bag_of
from dmml.training.parts.feature_reading import FeaturesRead, read_features
from dmml.training.parts.output_parts import assemble_output
from dmml.training.parts.programs import ProgramScores
from dmml.training.weighting import Weighing, as_they_are
from dmml.types import SUBSPACES, Bag, Batch, GradientRule, LossTerms, SubspaceOutput


class SubspaceModule(BackboneModule):
    """Base of `SubspaceTeacher` and `SubspaceStudent`, which document the arguments and save them.

    The module holds everything that was fitted on training patients (gene lists and statistics, the task's edges or
    classes, encoder identity, ...) as plain hyper-parameters; the data module reads them when it makes a loader.
    """

    def __init__(
        self,
        n_features: int | None,
        genes: dict | None,
        task: Task,
        width: int,
        magnifications: tuple[int, ...] | list[int],
        programs: dict | None,
        consistency: str,
        consistency_weight: float,
        program_weight: float,
        decorrelation_weight: float,
        backbone: Callable[[], Backbone] | None,
        tissue_specific: bool,
        tissue_rank: int,
        token_dropout: float,
        embedding_dropout: float,
        lr: float,
        weight_decay: float,
        warmup: float,
        init_from: str | None,
        compile: bool,
        fitted: dict | None,
    ):
        super().__init__()
        if consistency not in CONSISTENCIES:
            raise ValueError(f"consistency must be one of {', '.join(CONSISTENCIES)}; got {consistency!r}")
        self.n_features, self.genes, self.programs = n_features, unpack(genes), unpack(programs)
        self.task = copy.deepcopy(task)  # it is fitted here, and the caller's object must not change
        self.width, self.magnifications = width, tuple(sorted(int(m) for m in magnifications))
        self.consistency, self.consistency_weight = consistency, consistency_weight
        self.program_weight, self.decorrelation_weight = program_weight, decorrelation_weight
        self.tissue_specific, self.tissue_rank = tissue_specific, tissue_rank
        self.token_dropout, self.embedding_dropout = token_dropout, embedding_dropout
        self.lr, self.weight_decay, self.warmup = lr, weight_decay, warmup
        self.init_from, self.compiled, self.fitted = init_from, compile, unpack(fitted or {})
        self._take_backbone(backbone)
        self._built = False
        self._shared_rule: GradientRule | None = None
        self.weighing: Weighing = as_they_are

    # ---- building, and fitting to the data -----------------------------------------------------------------------

    def _build_if_known(self) -> None:
        """Build the parts as soon as every dimension is known: in the constructor, or in `setup("fit")`."""
        known = self.n_features is not None and self.genes is not None
        if self._built or not known or getattr(self.task, "classes", ()) is None:
            return
        if self.n_features:
            self.projection = nn.ModuleDict(
                {f"{m}x": TokenProjection(self.n_features, self.width, self.token_dropout) for m in self.magnifications}
            )
        self._build_programs()
        self.heads = nn.ModuleDict(
            {
                f"{m}x": SubspaceHead(self.width, self.task.n_outputs, self.embedding_dropout)
                for m in self.magnifications
            }
        )
        if self.n_features and self.tissue_specific:
            size = self.n_features, self.task.n_outputs
            self.tissue_heads = nn.ModuleDict(
                {f"{m}x": TissueSpecificHead(*size, dropout=self.embedding_dropout) for m in self.magnifications}
            )
        self.validation_metrics = self.task.metrics().clone(prefix="val/")
        self._build_parts()
        # A plain attribute: DDP would broadcast a buffer from rank 0 and lose the other ranks' sums.
        self._confidence = torch.zeros(len(self.magnifications), 5)
        self._built = True

    def _build_programs(self) -> None:
        self.scores = ProgramScores(self.genes, self.programs)
        self.program_heads = nn.ModuleDict(
            {key: ProgramHead(self.width, self.scores.sizes[key.split("_")[1]]) for key in self._slots()}
        )

    def _slots(self) -> list[str]:
        """Return the names of the parts that exist once per magnification and subspace, e.g. `10x_tumor`."""
        return [f"{m}x_{s}" for m in self.magnifications for s in SUBSPACES]

    def _build_parts(self) -> None:
        """Build the parts that only the teacher or only the student has."""
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        """At fit, take missing arguments from the training data; otherwise check that the cohort fits the model."""
        data = getattr(self._trainer, "datamodule", None)
        if stage == "fit":
            self.fit_to_data(data)
            if self._built and self.scores.names != ProgramScores(self.genes or {}, self.programs).names:
                self._build_programs()  # they were built before the data provided gene lists
            self._build_if_known()
            self._start(data)
        elif data is not None and hasattr(data, "check"):
            data.check(self)
        if not self._built:
            raise InputError(
                "the model's dimensions are not known: give n_features, genes and the task's classes, fit with a "
                "MultimodalDataModule, or load a checkpoint"
            )
        if stage == "fit" and self.compiled:
            compile_parts(self)
        self._keep_hparams()

    def _start(self, data: Any | None) -> None:
        """Prepare a fit: set the features' statistics, fit the backbone, and load the weights of `init_from`."""
        set_feature_statistics(self, self.fitted.get("feature_statistics") or {})
        had_backbone = self.has_backbone
        self._start_backbone(data)
        if self.has_backbone and not had_backbone:  # a loaded model's heads were trained with its backbone
            for parameter in self.heads.parameters():  # at first, the subspaces add nothing to a new backbone
                nn.init.zeros_(parameter)
        if self.init_from:
            start_from(self, self.init_from, read_checkpoint(self.init_from)["state_dict"])

    def fit_to_data(self, data: Any | None) -> None:
        """Fill in arguments that were not given from the checkpoint and from the data, without building the network.

        Args:
            data: A `MultimodalDataModule` after `setup("fit")`; None = nothing is fitted.

        Raises:
            InputError: The data are not usable for a fit, or do not match the checkpoint.
        """
        self._inherit()
        if data is not None:
            self._fit_to(data)

    def _inherit(self) -> None:
        """Take gene lists and task arguments that were not given from the checkpoint that the module starts from."""
        if self.init_from:
            adopt(self, read_checkpoint(self.init_from)["hyper_parameters"])

    def _fit_to(self, data: Any) -> None:
        """Fit the task and all statistics on the training patients of the data module."""
        sources = self._sources()
        for path, fitted in sources.items():
            refuse_leak(path, fitted, data.patients)
        if not self._built:
            self.magnifications = choose_magnifications(self.magnifications, data.magnifications)
        if self.n_features is None:
            self.n_features = data.n_features
        elif data.n_features not in (0, self.n_features):
            raise InputError(
                f"the model takes {self.n_features} features a tile, {data.features} holds {data.n_features}"
            )
        if self.genes is None:
            self.programs = data.programs()
            self.genes = {s: sorted({g for genes in sets.values() for g in genes}) for s, sets in self.programs.items()}
        fit_task(self.task, data)
        self.fitted |= data.fitted(self.genes)
        self.fitted["patients"] = {part: hash_patients(data.patients(part)) for part in ("train", "val")}
        if before := seen_before(*sources.values()):
            self.fitted["patients"]["before"] = before

    def _sources(self) -> dict[str, dict[str, Any]]:
        """Return {path of a checkpoint that the model learns from: its fitted values}."""
        if not self.init_from:
            return {}
        return {self.init_from: unpack(read_checkpoint(self.init_from)["hyper_parameters"].get("fitted") or {})}

    def _keep_hparams(self) -> None:
        """Write the fitted values into the hyper-parameters, in a form that `weights_only=True` can load."""
        lists = pack({"genes": self.genes, "programs": self.programs, "fitted": self.fitted})
        self.hparams.update(n_features=self.n_features, magnifications=list(self.magnifications), **lists)
        for name in ("task", "fusion", "expression_encoder", "backbone"):
            if name in self.hparams:
                self.hparams[name] = class_config(self.task if name == "task" else self.hparams[name])
        self.hparams.setdefault("_class_path", f"{type(self).__module__}.{type(self).__qualname__}")
        self.hparams.setdefault("_instantiator", "lightning.pytorch.cli.instantiate_module")

    # ---- the parts of a forward pass ---------------------------------------------------------------------------

    def _bag(self, batch: Batch, magnification: int) -> Bag:
        return bag_of(batch, magnification, self.n_features or 0)

    def _read_features(self, magnification: int, bag: Bag, statistics: dict[str, SlideStatistics]) -> FeaturesRead:
        """Read a bag (see `read_features`); `statistics` come from `_backbone_statistics`."""
        name = f"{magnification}x"
        head = self.tissue_heads[name] if self.tissue_specific else None
        return read_features(bag, self.projection[name], head, statistics.get(name))

    def _finish(self, batch: Batch, embeddings, attention, programs, tissue, backbone) -> SubspaceOutput:
        """Add the backbone to the programs, and assemble the output (see `assemble_output`)."""
        parts = embeddings, attention, self._total_programs(programs, backbone), tissue, backbone
        return assemble_output(self.task, self.heads, batch, self._available(batch), *parts, self._share("deep_share"))

    def _available(self, batch: Batch) -> Tensor:
        """Return (M, B) bool, whether a patient has tokens at a magnification."""
        none = torch.zeros_like(batch.has_expression)
        return torch.stack([batch.bags[m].mask.any(1) if m in batch.bags else none for m in self.magnifications])

    # ---- losses ------------------------------------------------------------------------------------------------

    def losses(self, batch: Batch) -> LossTerms:
        """Compute every loss term of a batch; this is plain PyTorch and needs no Trainer."""
        return self._terms(batch, self(batch))

    def _terms(self, batch: Batch, output: SubspaceOutput) -> LossTerms:
        return weighted_terms(self, batch, output, self._available(batch))

    # ---- HasSubspaces ------------------------------------------------------------------------------------------
    def subspace_heads(self) -> Iterable[tuple[Parameter, slice, slice]]:
        """Implement `dmml.types.HasSubspaces.subspace_heads`."""
        for m in self.magnifications:
            head = self.heads[f"{m}x"]
            yield head.linear.weight, head.columns["tumor"], head.columns["tme"]

    def take_confidence(self) -> Tensor:
        """Implement `dmml.types.HasSubspaces.take_confidence`."""
        taken, self._confidence = self._confidence, torch.zeros_like(self._confidence)
        return taken

    def set_shared_rule(self, rule: GradientRule | None) -> None:
        """Implement `dmml.types.HasSubspaces.set_shared_rule`."""
        self._shared_rule = rule

    # ---- steps -------------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one micro-batch, log its terms, and add to the confidences."""
        output = self(batch)
        terms = self.weighing(self, self._terms(batch, output), batch)
        self._confidence = self._confidence.to(terms.total.device) + confidence_sums(self.task, output, batch)
        size = len(batch.patient_id)
        self.log_mean("train/loss", terms.total, size, prog_bar=True)
        for name, value in terms.parts.items():
            self.log_mean(f"train/{name}", value.detach(), size)
        return terms.total

    def validated_logits(self, batch: Batch) -> Tensor:
        """Return the logits (B, C), combined over magnifications."""
        return self(batch).logits

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Return the predictions that are written to `predictions.csv`, and the output with attention."""
        return self.predict_step(batch, batch_idx)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Return `{"predictions": {column: (B,)}, "outcome": {column: [...]}, "output": SubspaceOutput}`."""
        output = self(batch)
        outcome = self.task.decode(batch.target) if batch.target else {}
        return {"predictions": self.task.predictions(output.logits), "outcome": outcome, "output": output}

    def configure_optimizers(self) -> torch.optim.Optimizer | dict[str, Any]:
        """AdamW with warm-up and cosine."""
        return adamw_with_cosine(self, self.lr, self.weight_decay, self.warmup)
