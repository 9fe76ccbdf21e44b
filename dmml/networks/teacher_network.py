"""The teacher's network, which reads histology and RNA together in two subspaces at every magnification."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dmml.errors import InputError
from dmml.networks.parts.output_parts import BySubspace, DeepParts
from dmml.networks.subspace_network import SubspaceNetwork
from dmml.nn.expression import ExpressionEncoder, MaskedEncoder
from dmml.nn.fusion import Fusion, FusionOutput, GatedPoolFusion
from dmml.nn.projection import fork, program_embedding
from dmml.types import SUBSPACES, Bag, Batch, SubspaceOutput


class TeacherNetwork(SubspaceNetwork):
    """Multi-modal network that reads histology and RNA.

    Args:
        fusion: Class of the fusion, built as `fusion(width)` for every magnification and subspace; None =
            `GatedPoolFusion`. If its output is the subspace's whole embedding (`Fusion.is_whole_embedding`, as
            `PaperFusion`'s), nothing is added to it.
        expression_encoder: Class of the expression encoder, built as `expression_encoder(n_genes, width)` for every
            subspace; None = `ExpressionEncoder`. One with several gene tokens (`ProgramTokenEncoder`) needs a fusion
            that reads them; a teacher without slides takes the mean of the tokens.
        expression_dropout: Share of patients whose RNA is hidden in a training step, so that one model serves patients
            with and without RNA.
        tissue_through_programs: Whether the fused tissue enters an embedding only as predicted programs (for few
            patients and named programs) or directly (which includes signals that are not in the RNA, e.g. a rare
            tissue); None = as programs if `programs` are named.
        shared: Arguments of `SubspaceNetwork`, `BackboneNetwork` and `FittedNetwork`.
    """

    def __init__(
        self,
        fusion: Callable[[int], Fusion] | None = None,
        expression_encoder: Callable[[int, int], MaskedEncoder] | None = None,
        expression_dropout: float = 0.2,
        tissue_through_programs: bool | None = None,
        **shared: Any,
    ):
        super().__init__(**shared)
        self._fusion_factory = GatedPoolFusion if fusion is None else fusion
        self._encoder_factory = ExpressionEncoder if expression_encoder is None else expression_encoder
        self.expression_dropout, self.tissue_through_programs = expression_dropout, tissue_through_programs

    def _build_parts(self) -> None:
        sizes = self.scores.sizes
        self._n_genes = {s: len((self.genes or {}).get(s, [])) for s in SUBSPACES}
        self.expression = nn.ModuleDict({s: self._encoder_factory(self._n_genes[s], self.width) for s in SUBSPACES})
        for s, encoder in self.expression.items():
            if isinstance(encoder, MaskedEncoder):
                encoder.set_programs(self.scores.get_buffer(f"weight_{s}"))
        if not self.n_features:
            return
        self.fusion = nn.ModuleDict({key: self._fusion_factory(self.width) for key in self._slots()})
        self._check_fusion()
        # A program's score is learned from the measurements of many genes. It does not let the model memorise a small
        # cohort, and carries no factor of the other subspace. Single genes as programs are no such summary.
        through = self.programs is not None if self.tissue_through_programs is None else self.tissue_through_programs
        added = [key for key in self._slots() if not self._is_whole_embedding(key)]
        slots = {key: sizes[key.split("_")[1]] * through for key in added}
        self.program_readout = nn.ModuleDict({key: nn.Linear(self.width, size) for key, size in slots.items() if size})
        self.embed = nn.ModuleDict(
            {key: program_embedding(size, self.width, self.tissue_rank) for key, size in slots.items()}
        )

    def _is_whole_embedding(self, key: str) -> bool:
        """Whether the output of a slot's fusion is the whole embedding."""
        return getattr(self.fusion[key], "is_whole_embedding", False)

    def _check_fusion(self) -> None:
        """Refuse a fusion that cannot read what the encoder gives, and an argument that it leaves without an effect."""
        for key, fusion in self.fusion.items():
            encoder, name = self.expression[key.split("_")[1]], type(fusion).__name__
            if getattr(encoder, "gives_gene_tokens", False) and not getattr(fusion, "reads_gene_tokens", False):
                raise InputError(
                    f"model.fusion: {name} reads one vector per patient, and {type(encoder).__name__} gives several gene tokens; "
                    "use fusion: PaperFusion, or expression_encoder: ExpressionEncoder"
                )
            if self.tissue_through_programs and self._is_whole_embedding(key):
                raise InputError(
                    f"model.tissue_through_programs: the output of {name} is the whole embedding, so tissue cannot enter it "
                    "as programs; leave tissue_through_programs out, or use another fusion"
                )

    def forward(self, batch: Batch) -> SubspaceOutput:
        """Compute the `SubspaceOutput` of a batch; in training, the RNA of some patients is hidden."""
        reads_rna = batch.has_expression
        if self.training and self.expression_dropout:
            is_kept = torch.rand(reads_rna.shape, device=reads_rna.device) >= self.expression_dropout
            reads_rna = reads_rna & is_kept
        expression = {s: self._encode(s, batch, reads_rna) for s in SUBSPACES}
        bags = {m: self._bag(batch, m) for m in self.magnifications}
        statistics, deep = self._backbone_statistics(batch), DeepParts()
        guided, gene_attention = BySubspace(), BySubspace()
        for m, bag in bags.items():
            if not self.n_features:
                for s in SUBSPACES:
                    genes = expression[s]  # (B, d), or gene tokens (B, T, d)
                    deep.embeddings[m, s] = genes.mean(1) if genes.dim() == 3 else genes
                    deep.attention[m, s] = bag.mask.float() * 0
                    deep.programs[m, s] = genes.new_zeros(len(reads_rna), self.scores.sizes[s])
                continue
            shared_tokens = self._read_tokens(m, bag, statistics, deep)
            has_tokens = bag.mask.any(1, keepdim=True)
            for s, tokens in zip(SUBSPACES, fork(shared_tokens, self._shared_rule), strict=True):
                key = f"{m}x_{s}"
                fused = FusionOutput(*self.fusion[key](tokens, bag, expression[s]))  # a user's fusion may give a pair
                deep.attention[m, s] = fused.attention
                if fused.gene_attention is not None:
                    gene_attention[m, s] = fused.gene_attention
                programs, deep.embeddings[m, s] = self._embed(key, fused.embedding, has_tokens, expression[s])
                if programs is not None:
                    guided[m, s] = programs
                deep.programs[m, s] = self.program_heads[key](tokens, bag.mask)
        backbone = self._backbone_output(batch, bags, reads_rna, deep.statistics)
        output = self._finish(batch, deep, backbone)
        return replace(output, guided_programs=guided, gene_attention=gene_attention)

    def _embed(self, key: str, tissue: Tensor, has_tokens: Tensor, expression: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return the guided programs (B, P), None if there are none, and the embedding (B, d) of fused tissue.

        Args:
            key: Slot of the tissue.
            tissue: (B, d) result of the fusion.
            has_tokens: (B, 1) bool.
            expression: The encoded genes of the subspace.
        """
        programs = None
        if key in self.program_readout:
            tissue = programs = self.program_readout[key](tissue) * has_tokens
        if key in self.embed:
            tissue = expression + self.embed[key](tissue) * has_tokens
        return programs, tissue

    def tissue_embeddings(
        self, magnification: int, tokens: Tensor, bag: Bag, batch: Batch, base: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """See `SubspaceNetwork.tissue_embeddings`; `base` is not read, because it does not enter the embeddings."""
        embeddings, has_tokens = {}, bag.mask.any(1, keepdim=True)
        for s in SUBSPACES:
            key, expression = f"{magnification}x_{s}", self._encode(s, batch, batch.has_expression)
            fused = FusionOutput(*self.fusion[key](tokens, bag, expression))
            embeddings[s] = self._embed(key, fused.embedding, has_tokens, expression)[1]
        return embeddings

    def _encode(self, subspace: str, batch: Batch, reads_rna: Tensor) -> Tensor:
        """Encode a subspace's genes as (B, d) or tokens (B, T, d); if the batch lacks them, patients count as without RNA."""
        genes = batch.expression.get(subspace)
        if genes is None:
            genes = torch.zeros(len(reads_rna), self._n_genes[subspace], device=reads_rna.device)
            reads_rna = torch.zeros_like(reads_rna)
        return self.expression[subspace](genes, reads_rna)
