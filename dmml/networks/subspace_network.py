"""Base of the networks of teacher and student: parts per magnification and subspace."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor

from dmml.backbone.backbone import BackboneOutput
from dmml.backbone.slide_statistics import SlideStatistics
from dmml.networks.backbone_network import BackboneNetwork
from dmml.networks.packing import unpack
from dmml.networks.parts.bags import bag_of
from dmml.networks.parts.feature_reading import read_features
from dmml.networks.parts.output_parts import DeepParts, assemble_output
from dmml.networks.parts.programs import ProgramScores
from dmml.nn.heads import ProgramHead, SubspaceHead
from dmml.nn.module_dict import TypedModuleDict
from dmml.nn.projection import TokenProjection
from dmml.nn.tissue import TissueSpecificHead
from dmml.types import SUBSPACES, Bag, Batch, GradientRule, SubspaceOutput


class SubspaceNetwork(BackboneNetwork):
    """Base of `TeacherNetwork` and `StudentNetwork`; states the arguments that both have.

    Args:
        programs: {subspace: {program: [gene, …]}}, taken from the data whenever the genes are; otherwise None = every
            gene is a program.
        tissue_specific: Whether the logits have a part that reads tissue past both subspaces
            (`dmml.nn.tissue.TissueSpecificHead`), for signals that are in no program and no gene, such as a rare
            tissue; false removes it.
        tissue_rank: Number of dimensions through which tissue enters an embedding directly, where it does not enter as
            programs (`dmml.nn.projection.Narrow`).
        token_dropout: Dropout rate of the tokens.
        embedding_dropout: Dropout rate of the embeddings before the heads.
        shared: Arguments of `BackboneNetwork` and `FittedNetwork`.
    """

    def __init__(
        self,
        programs: dict | None = None,
        tissue_specific: bool = True,
        tissue_rank: int = 8,
        token_dropout: float = 0.1,
        embedding_dropout: float = 0.25,
        **shared: Any,
    ):
        super().__init__(**shared)
        self.programs = unpack(programs)
        self.tissue_specific, self.tissue_rank = tissue_specific, tissue_rank
        self.token_dropout, self.embedding_dropout = token_dropout, embedding_dropout
        self._shared_rule: GradientRule | None = None

    # ---- building ----------------------------------------------------------------------------------------------

    def _build_if_possible(self) -> None:
        """As in the base class; programs are built anew if the data provided gene lists only after they were built."""
        if self._is_built and self.scores.names != ProgramScores(self.genes or {}, self.programs).names:
            self._build_programs()
        super()._build_if_possible()

    def _build(self) -> None:
        if self.n_features:
            self.projection = TypedModuleDict[TokenProjection](
                {f"{m}x": TokenProjection(self.n_features, self.width, self.token_dropout) for m in self.magnifications}
            )
        self._build_programs()
        self.heads = TypedModuleDict[SubspaceHead](
            {
                f"{m}x": SubspaceHead(self.width, self.task.n_outputs, self.embedding_dropout)
                for m in self.magnifications
            }
        )
        if self.n_features and self.tissue_specific:
            size = self.n_features, self.task.n_outputs
            self.tissue_heads = TypedModuleDict[TissueSpecificHead](
                {f"{m}x": TissueSpecificHead(*size, dropout=self.embedding_dropout) for m in self.magnifications}
            )
        self._build_parts()

    def _build_programs(self) -> None:
        self.scores = ProgramScores(self.genes or {}, self.programs)
        self.program_heads = TypedModuleDict[ProgramHead](
            {key: ProgramHead(self.width, self.scores.sizes[key.split("_")[1]]) for key in self._slots()}
        )

    def _slots(self) -> list[str]:
        """Return the names of the parts that exist once per magnification and subspace, e.g. `10x_tumor`."""
        return [f"{m}x_{s}" for m in self.magnifications for s in SUBSPACES]

    def _build_parts(self) -> None:
        """Build the parts that only the teacher or only the student has."""
        raise NotImplementedError

    # ---- the parts of a forward pass ---------------------------------------------------------------------------

    def _bag(self, batch: Batch, magnification: int) -> Bag:
        return bag_of(batch, magnification, self.n_features or 0)

    def _read_tokens(
        self, magnification: int, bag: Bag, modules: Mapping[str, SlideStatistics], deep: DeepParts
    ) -> Tensor:
        """Read a bag's features once for all parts (see `read_features`).

        Args:
            magnification: Magnification of the bag.
            bag: The bag.
            modules: Return value of `_backbone_statistics`.
            deep: Gets the tissue-specific part and the statistics.

        Returns:
            Tokens (B, N, d) for the subspaces.
        """
        name = f"{magnification}x"
        head = self.tissue_heads[name] if self.tissue_specific else None
        read = read_features(bag, self.projection[name], head, modules.get(name))
        if read.specific is not None:
            deep.tissue[magnification] = read.specific
        if read.statistics is not None:
            deep.statistics[magnification] = read.statistics
        return read.tokens

    @property
    def embeds_backbone_programs(self) -> bool:
        """Whether the programs that the backbone predicts enter the embeddings; by default they do not."""
        return False

    def tissue_embeddings(
        self, magnification: int, tokens: Tensor, bag: Bag, batch: Batch, base: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Compute the embeddings {s: (B, d)} of one magnification from its tokens, as a forward pass in eval mode does.

        Args:
            magnification: Magnification of the tokens.
            tokens: (B, N, d) result of the token projection.
            bag: Mask, positions and slides of the tokens.
            batch: The batch, for its RNA.
            base: {s: (B, P)} the backbone's programs of this magnification; {} = there are none.
        """
        raise NotImplementedError

    def hold_clusters(self, magnification: int, tokens: Tensor, bag: Bag) -> AbstractContextManager[None]:
        """Keep the clusters of these tokens within the context (`Aggregator.hold_clusters`); by default there are none."""
        return nullcontext()

    def _finish(self, batch: Batch, deep: DeepParts, backbone: BackboneOutput | None) -> SubspaceOutput:
        """Add the backbone to the deep part (see `assemble_output`)."""
        programs = self._total_programs(deep.programs, backbone)
        available, share = self._available(batch), self._share("deep_share")
        return assemble_output(self.task, self.heads, batch, available, deep, programs, backbone, share)
