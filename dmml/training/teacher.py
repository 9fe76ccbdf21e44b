"""The teacher, which reads histology and RNA together in two subspaces at every magnification."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dmml.backbone.backbone import Backbone
from dmml.nn.expression import ExpressionEncoder, MaskedEncoder
from dmml.nn.fusion import DeformableFusion, Fusion
from dmml.nn.projection import fork, program_embedding
from dmml.tasks import Survival, Task
from dmml.training.optimisation import adamw_with_cosine
from dmml.training.subspace_module import SubspaceModule
from dmml.types import SUBSPACES, Batch, SubspaceOutput


class SubspaceTeacher(SubspaceModule):
    """Multi-modal teacher that reads histology and RNA.

    Args:
        n_features: D of the encoder; None = taken from the data at fit, 0 = no slides.
        genes: {"tumor": [...], "tme": [...]}; None = taken from the data at fit, {} = no RNA.
        task: Task that is predicted; None = survival. Its classes or edges are fitted on the training patients where
            they are not given.
        width: d.
        magnifications: Magnifications that the model reads. If the data lack one of the default [10, 20], the model
            reads those of the data instead.
        programs: {subspace: {program: [gene, …]}}, taken from the data whenever the genes are; otherwise None = every
            gene is a program.
        fusion: Class of the fusion, built as `fusion(width)` for every magnification and subspace.
        expression_encoder: Class of the expression encoder, built as `expression_encoder(n_genes, width)` for every
            subspace.
        expression_dropout: Share of patients whose RNA is hidden in a training step, so that one model serves patients
            with and without RNA.
        consistency: "expression", "attention" over parent tiles, or "batch" (the form of the paper).
        consistency_weight: Weight of the inter-magnification consistency; 0 removes it.
        program_weight: Weight of the term that ties predicted programs to measured ones. With the "expression" form and
            equal weights, the two terms together are `functional.consistency.expression_consistency`, except that the
            programs read from the fusion are tied to the measured ones, too.
        decorrelation_weight: Weight of the decorrelation of the two embeddings.
        tissue_through_programs: Whether the fused tissue enters an embedding only as predicted programs (for few
            patients and named programs) or directly (which includes signals that are not in the RNA, e.g. a rare
            tissue); None = as programs if `programs` are named.
        backbone: Class of the backbone, the convex model on which the deep part builds, built as `backbone()` and
            fitted before the first step (`dmml.backbone.backbone.Backbone`); null removes it.
        tissue_specific: Whether the logits have a part that reads tissue past both subspaces
            (`dmml.nn.tissue.TissueSpecificHead`), for signals that are in no program and no gene, such as a rare
            tissue; false removes it.
        tissue_rank: Number of dimensions through which tissue enters directly (`dmml.nn.projection.Narrow`).
        token_dropout: Dropout rate of the tokens.
        embedding_dropout: Dropout rate of the embeddings before the heads.
        lr: Peak learning rate of AdamW.
        weight_decay: Weight decay of AdamW.
        tissue_weight_decay: Weight decay of the linear layer by which tissue enters an embedding as programs. With a
            strong one, tissue contributes what RNA leaves open, and the other subspace's factors are kept out; None =
            `weight_decay`.
        warmup: Share of the steps over which the learning rate rises; afterwards it falls along a cosine.
        init_from: Checkpoint whose weights the fit starts from, e.g. for fine-tuning.
        compile: Whether a fit compiles the parts that read tokens with `torch.compile`.
        fitted: Filled at fit and saved in the checkpoint; leave it empty.
    """

    def __init__(
        self,
        n_features: int | None = None,
        genes: dict | None = None,
        task: Task | None = None,
        width: int = 128,
        magnifications: tuple[int, ...] | list[int] = (10, 20),
        programs: dict | None = None,
        fusion: Callable[[int], Fusion] = DeformableFusion,
        expression_encoder: Callable[[int, int], MaskedEncoder] = ExpressionEncoder,
        expression_dropout: float = 0.2,
        consistency: str = "expression",
        consistency_weight: float = 0.1,
        program_weight: float = 4.0,
        decorrelation_weight: float = 0.05,
        tissue_through_programs: bool | None = None,
        backbone: Callable[[], Backbone] | None = Backbone,
        tissue_specific: bool = True,
        tissue_rank: int = 8,
        token_dropout: float = 0.1,
        embedding_dropout: float = 0.25,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        tissue_weight_decay: float | None = 20.0,
        warmup: float = 0.1,
        init_from: str | None = None,
        compile: bool = False,
        fitted: dict | None = None,
    ):
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
        self._fusion_factory, self._encoder_factory = fusion, expression_encoder
        self.expression_dropout, self.tissue_through_programs = expression_dropout, tissue_through_programs
        self.tissue_weight_decay = tissue_weight_decay
        self._build_if_known()
        self._keep_hparams()

    def setup(self, stage: str) -> None:
        """As in the base class; program heads that no loss term uses are frozen."""
        super().setup(stage)
        consistent = self.consistency_weight and self.consistency == "expression" and len(self.magnifications) > 1
        if stage == "fit" and not (self.n_features and (self.program_weight or consistent)):
            self.program_heads.requires_grad_(False)  # otherwise DDP waits for gradients that never come

    def _build_parts(self) -> None:
        sizes = self.scores.sizes
        self._n_genes = {s: len(self.genes.get(s, [])) for s in SUBSPACES}
        self.expression = nn.ModuleDict({s: self._encoder_factory(self._n_genes[s], self.width) for s in SUBSPACES})
        if not self.n_features:
            return
        self.fusion = nn.ModuleDict({key: self._fusion_factory(self.width) for key in self._slots()})
        # A program's score is learned from the measurements of many genes. It does not let the model memorise a small
        # cohort, and carries no factor of the other subspace. Single genes as programs are no such summary.
        through = self.programs is not None if self.tissue_through_programs is None else self.tissue_through_programs
        slots = {key: sizes[key.split("_")[1]] * through for key in self._slots()}
        self.reading = nn.ModuleDict({key: nn.Linear(self.width, size) for key, size in slots.items() if size})
        self.embed = nn.ModuleDict(
            {key: program_embedding(size, self.width, self.tissue_rank) for key, size in slots.items()}
        )

    def forward(self, batch: Batch) -> SubspaceOutput:
        """Compute the `SubspaceOutput` of a batch; in training, the RNA of some patients is hidden."""
        known = batch.has_expression
        if self.training and self.expression_dropout:
            known = known & (torch.rand(known.shape, device=known.device) >= self.expression_dropout)
        expression = {s: self._encode(s, batch, known) for s in SUBSPACES}
        bags = {m: self._bag(batch, m) for m in self.magnifications}
        reader, statistics = self._backbone_statistics(batch), {}
        embeddings, attention, programs, guided, specific = {}, {}, {}, {}, {}
        for m, bag in bags.items():
            if not self.n_features:
                for s in SUBSPACES:
                    embeddings[m, s], attention[m, s] = expression[s], bag.mask.float() * 0
                    programs[m, s] = expression[s].new_zeros(len(known), self.scores.sizes[s])
                continue
            tokens, specific[m], statistics[m] = self._read_features(m, bag, reader)
            there = bag.mask.any(1, keepdim=True)
            for s, own in zip(SUBSPACES, fork(tokens, self._shared_rule), strict=True):
                key = f"{m}x_{s}"
                tissue, attention[m, s] = self.fusion[key](own, bag, expression[s])
                if key in self.reading:
                    tissue = guided[m, s] = self.reading[key](tissue) * there
                embeddings[m, s] = expression[s] + self.embed[key](tissue) * there
                programs[m, s] = self.program_heads[key](own, bag.mask)
        backbone = self._backbone_output(batch, bags, known, statistics)
        output = self._finish(batch, embeddings, attention, programs, specific, backbone)
        return replace(output, guided_programs=guided)

    def _reads_rna(self) -> bool:
        return True

    def _predicts_programs(self) -> bool:
        return True

    def _encode(self, subspace: str, batch: Batch, known: Tensor) -> Tensor:
        """Encode a subspace's genes as (B, d); if the batch lacks them, its patients are treated as having no RNA."""
        genes = batch.expression.get(subspace)
        if genes is None:
            genes = torch.zeros(len(known), self._n_genes[subspace], device=known.device)
            known = torch.zeros_like(known)
        return self.expression[subspace](genes, known)

    def configure_optimizers(self) -> torch.optim.Optimizer | dict[str, Any]:
        """AdamW with warm-up and cosine; the layers from tissue's programs to embeddings have `tissue_weight_decay`."""
        own = self.tissue_weight_decay
        stronger = {} if own is None or not self.n_features else {f"embed.{key}": own for key in self.reading}
        return adamw_with_cosine(self, self.lr, self.weight_decay, self.warmup, stronger)
