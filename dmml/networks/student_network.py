"""The student's network, which reads histology alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dmml.errors import InputError
from dmml.networks.parts.output_parts import BySubspace, DeepParts
from dmml.networks.parts.programs import ProgramScores
from dmml.networks.subspace_network import SubspaceNetwork
from dmml.nn.aggregator import Aggregated, Aggregator, TokenAggregator
from dmml.nn.module_dict import TypedModuleDict
from dmml.nn.projection import fork, program_embedding
from dmml.types import SUBSPACES, Bag, Batch, SubspaceOutput


class StudentNetwork(SubspaceNetwork):
    """Transcriptome-agnostic network with token aggregation per subspace.

    Args:
        n_merged: Merged tokens per subspace and magnification; None turns aggregation off. `PrototypeAggregator` needs 2,
            the paper's number of clusters.
        aggregator: Class of the aggregation, built as `aggregator(width, n_merged)` for every magnification; None =
            `TokenAggregator`. One whose result is the whole embedding (`is_whole_embedding`) makes a student without
            programs.
        shared: Arguments of `SubspaceNetwork`, `BackboneNetwork` and `FittedNetwork`.

    Source: contribution 3 of the paper.
    """

    def __init__(
        self,
        n_merged: int | None = 8,
        aggregator: Callable[[int, int | None], Aggregator] | None = None,
        **shared: Any,
    ):
        super().__init__(**shared)
        self.n_merged = n_merged
        self._aggregator_factory = TokenAggregator if aggregator is None else aggregator

    @property
    def _may_lack_genes(self) -> bool:
        """Whether the network can be built without gene lists, as one without programs."""
        return True

    def _build_if_possible(self) -> None:
        """As in the base class, but a student without genes that nothing else can provide has no programs."""
        if self._may_lack_genes and self.genes is None and self.n_features is not None:
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
            has_tokens = bags[m].mask.any(1, keepdim=True)
            deep.programs[m, s], deep.embeddings[m, s] = self._embed(m, s, tissue, has_tokens, base.get((m, s)))
        return self._finish(batch, deep, backbone)

    def _embed(
        self, magnification: int, subspace: str, tissue: Tensor, has_tokens: Tensor, base: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the deep part's programs (B, P) and the embedding (B, d) of aggregated tissue (B, d).

        Args:
            magnification: Magnification of the tissue.
            subspace: Subspace of the tissue.
            tissue: Result of the aggregation.
            has_tokens: (B, 1) bool.
            base: (B, P) the backbone's programs, which are added before the embedding; None = there are none.
        """
        key, programs = f"{magnification}x_{subspace}", tissue[:, :0]
        if key in self.program_readout:
            programs = self.program_readout[key](tissue) * has_tokens
            tissue = programs if base is None else programs + base
        return programs, self.embed[key](tissue) * has_tokens

    @property
    def embeds_backbone_programs(self) -> bool:
        """See `SubspaceNetwork.embeds_backbone_programs`."""
        return not self._has_whole_embeddings

    def tissue_embeddings(
        self, magnification: int, tokens: Tensor, bag: Bag, batch: Batch, base: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """See `SubspaceNetwork.tissue_embeddings`."""
        aggregator, has_tokens = self.aggregator[f"{magnification}x"], bag.mask.any(1, keepdim=True)
        tokens = aggregator.shared_tokens(tokens, bag)
        embeddings = Aggregated(*aggregator(dict.fromkeys(SUBSPACES, tokens), bag)).embeddings
        if self._has_whole_embeddings:
            return embeddings
        return {s: self._embed(magnification, s, embeddings[s], has_tokens, base.get(s))[1] for s in SUBSPACES}

    def hold_clusters(self, magnification: int, tokens: Tensor, bag: Bag) -> AbstractContextManager[None]:
        """See `SubspaceNetwork.hold_clusters`."""
        aggregator = self.aggregator[f"{magnification}x"]
        return aggregator.hold_clusters(aggregator.shared_tokens(tokens, bag), bag)
