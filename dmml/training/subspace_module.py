"""Base of teacher and student: parts per magnification and subspace, steps, loss terms and fitted values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from dmml.networks.checkpoint import read_checkpoint
from dmml.networks.packing import unpack
from dmml.networks.subspace_network import SubspaceNetwork
from dmml.nn.standardised import set_feature_statistics
from dmml.training.backbone_module import BackboneModule
from dmml.training.checkpointing.seen_patients import check_leak, patients_of_sources
from dmml.training.checkpointing.warm_start import copy_matching_weights, take_missing_arguments
from dmml.training.compilation import compile_parts
from dmml.training.fitted_module import genes_of
from dmml.training.losses.confidence import confidence_sums
from dmml.training.losses.loss_terms import check_consistency, check_gene_attention, weighted_terms
from dmml.training.weighting import Reweighting, unchanged
from dmml.types import Batch, GradientRule, LossTerms, SubspaceOutput

if TYPE_CHECKING:
    from dmml.data.module import MultimodalDataModule


class SubspaceModule(BackboneModule, SubspaceNetwork):
    """Base of `SubspaceTeacher` and `SubspaceStudent`; states the arguments of training that both have.

    Args:
        consistency: "expression", "attention" over parent tiles, "dev" (the paper's, on gene-to-tissue attention maps)
            or "released_dev" (the released code's form on the same maps). The last two need a fusion with such maps.
        consistency_weight: Weight of the inter-magnification consistency, λ of the paper's DEV loss, which the paper
            does not give. Beside the programs, which both magnifications learn from the same measurements, it had no
            effect (docs/results/ablation.md).
        program_weight: Weight of the term that ties predicted programs to measured ones. With the "expression" form and
            equal weights, the two terms together are `functional.consistency.expression_consistency`, except that the
            programs read from the fusion are tied to the measured ones, too.
        decorrelation_weight: Weight of the decorrelation of the two embeddings; it had no effect beside the programs
            either.
        init_from: Checkpoint whose weights the fit starts from: for fine-tuning, or a student pre-trained without a
            teacher.
        compile: Whether a fit compiles the parts that read tokens with `torch.compile`.
        shared: Arguments of `FittedModule` and of `SubspaceNetwork`.
    """

    def __init__(
        self,
        consistency: str = "expression",
        consistency_weight: float = 0.0,
        program_weight: float = 4.0,
        decorrelation_weight: float = 0.0,
        init_from: str | None = None,
        compile: bool = False,
        **shared: Any,
    ):
        super().__init__(**shared)
        check_consistency(consistency)
        self.consistency, self.consistency_weight = consistency, consistency_weight
        self.program_weight, self.decorrelation_weight = program_weight, decorrelation_weight
        self.init_from, self.compiled = init_from, compile
        self.reweighting: Reweighting = unchanged

    # ---- building, and fitting to the data -----------------------------------------------------------------------

    def _build(self) -> None:
        super()._build()
        # A plain attribute: DDP would broadcast a buffer from rank 0 and lose the other ranks' sums.
        self._confidence = torch.zeros(len(self.magnifications), 5)

    def _prepare_fit(self, data: MultimodalDataModule | None) -> None:
        """Check the consistency, set the features' statistics, fit the backbone, load `init_from`, and compile."""
        if self.consistency_weight and len(self.magnifications) > 1:
            check_gene_attention(self.consistency, self._gene_attention_sizes())
        set_feature_statistics(self, self.fitted.get("feature_statistics") or {})
        had_backbone = self.has_backbone
        self._start_backbone(data)
        if self.has_backbone and not had_backbone:  # a loaded model's heads were trained with its backbone
            for parameter in self.heads.parameters():  # at first, the subspaces add nothing to a new backbone
                nn.init.zeros_(parameter)
        if self.init_from:
            copy_matching_weights(self, self.init_from, read_checkpoint(self.init_from)["state_dict"])
        if self.compiled:
            compile_parts(self)

    def _gene_attention_sizes(self) -> dict[str, int | None]:
        """Return {slot: number D of values in its gene-to-tissue attention; None without it}; {} without fusions."""
        return {}

    def fit_to_data(self, data: MultimodalDataModule | None) -> None:
        """As in the base class, but what the checkpoints provide from which the model learns is taken from them first.

        Raises:
            InputError: The data are not usable for a fit, do not match the checkpoints, or contain validation or test
                patients on whom a checkpoint was trained.
        """
        self._inherit()
        if data is None:
            return
        sources = self._sources()
        for path, fitted in sources.items():
            check_leak(path, fitted, data.patients)
        super().fit_to_data(data)
        if before := patients_of_sources(*sources.values()):
            self.fitted["patients"]["before"] = before

    def _inherit(self) -> None:
        """Take gene lists and task arguments that were not given from the checkpoint that the module starts from."""
        if self.init_from:
            take_missing_arguments(self, read_checkpoint(self.init_from)["hyper_parameters"])

    def _take_genes(self, data: MultimodalDataModule) -> None:
        self.programs = data.programs()
        self.genes = genes_of(self.programs)

    def _sources(self) -> dict[str, dict[str, Any]]:
        """Return {path of a checkpoint that the model learns from: its fitted values}."""
        if not self.init_from:
            return {}
        return {self.init_from: unpack(read_checkpoint(self.init_from)["hyper_parameters"].get("fitted") or {})}

    def _lists(self) -> tuple[str, ...]:
        return "genes", "programs", "fitted"

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
            yield cast(Parameter, head.linear.weight), head.columns["tumor"], head.columns["tme"]

    def take_confidence(self) -> Tensor:
        """Implement `dmml.types.HasSubspaces.take_confidence`."""
        confidence, self._confidence = self._confidence, torch.zeros_like(self._confidence)
        return confidence

    def set_shared_rule(self, rule: GradientRule | None) -> None:
        """Implement `dmml.types.HasSubspaces.set_shared_rule`."""
        self._shared_rule = rule

    # ---- steps -------------------------------------------------------------------------------------------------

    def compute_output(self, batch: Batch) -> SubspaceOutput:
        """Return `forward`, which is what the steps call."""
        return self(batch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one micro-batch, log its terms, and add to the confidences."""
        output = self(batch)
        terms = self.reweighting(self, self._terms(batch, output), batch)
        self._confidence = self._confidence.to(terms.total.device) + confidence_sums(self.task, output, batch)
        size = len(batch.patient_id)
        self.log_mean("train/loss", terms.total, size, prog_bar=True)
        for name, value in terms.parts.items():
            self.log_mean(f"train/{name}", value.detach(), size)
        return terms.total
