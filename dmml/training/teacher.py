"""The teacher, which reads histology and RNA together in two subspaces at every magnification."""

from __future__ import annotations

from typing import Any

import torch

from dmml.networks.teacher_network import TeacherNetwork
from dmml.nn.fusion import FusionOutput
from dmml.training.subspace_module import SubspaceModule
from dmml.types import Bag


class SubspaceTeacher(SubspaceModule, TeacherNetwork):
    """Multi-modal teacher that reads histology and RNA.

    Args:
        tissue_weight_decay: Weight decay by AdamW of the linear layer by which tissue enters an embedding as programs.
            With a strong one, tissue contributes what RNA leaves open, and the other subspace's factors are kept out;
            None = `weight_decay`.
        shared: Arguments of `TeacherNetwork`, e.g. `fusion`, `n_features`, `genes`, `task`, and of the training:
            `SubspaceModule` and `FittedModule`.
    """

    def __init__(self, tissue_weight_decay: float | None = 20.0, **shared: Any):
        super().__init__(**shared)
        self._record_classes(fusion=self._fusion_factory, expression_encoder=self._encoder_factory)
        self.tissue_weight_decay = tissue_weight_decay
        if self._optimizer_class is not None:
            self._check_replaced("optimizer", "tissue_weight_decay")
        self._finish_init()

    @property
    def fitted_each(self) -> list[dict[str, Any]]:
        """Its fitted values; see `TeacherSource`."""
        return [self.fitted]

    def setup(self, stage: str) -> None:
        """As in the base class; program heads that no loss term uses are frozen."""
        super().setup(stage)
        consistent = self.consistency_weight and self.consistency == "expression" and len(self.magnifications) > 1
        if stage == "fit" and not (self.n_features and (self.program_weight or consistent)):
            self.program_heads.requires_grad_(False)  # otherwise DDP waits for gradients that never come

    def _gene_attention_sizes(self) -> dict[str, int | None]:
        """As in the base class; each fusion is called once, without RNA and for a bag without tokens."""
        if not self.n_features:
            return {}
        index = torch.zeros(1, 1, dtype=torch.long, device=self.device)
        empty = Bag(index.new_zeros(1, 1, self.width).float(), index.new_zeros(1, 1, 2).float(), index.bool(), index)
        sizes: dict[str, int | None] = {}
        for key, fusion in self.fusion.items():
            encoder, s = self.expression[key.split("_")[1]], key.split("_")[1]
            modes = encoder.training, fusion.training
            encoder.eval(), fusion.eval()
            with torch.no_grad():
                genes = encoder(torch.zeros(1, self._n_genes[s], device=self.device), index[0].bool())
                attention = FusionOutput(*fusion(empty.features, empty, genes)).gene_attention
            encoder.train(modes[0]), fusion.train(modes[1])
            sizes[key] = None if attention is None else attention.shape[1]
        return sizes

    def _reads_rna(self) -> bool:
        return True

    def _predicts_programs(self) -> bool:
        return True

    def _decay_of_parts(self) -> dict[str, float]:
        """Give the layers from tissue's programs to embeddings `tissue_weight_decay`."""
        if self.tissue_weight_decay is None or not self.n_features:
            return {}
        return {f"embed.{key}": self.tissue_weight_decay for key in self.program_readout}
