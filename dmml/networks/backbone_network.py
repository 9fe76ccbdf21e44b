"""Base of networks with a deep part on a backbone: adds both, the deep part multiplied by its share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from dmml.backbone.backbone import Backbone, BackboneOutput
from dmml.backbone.slide_statistics import SlideStatistics
from dmml.networks.fitted_network import FittedNetwork
from dmml.types import Bag, Batch


class BackboneNetwork(FittedNetwork):
    """Network with a deep part on a backbone.

    Args:
        backbone: Class of the backbone, the convex model on which the deep part builds, built as `backbone()` and
            fitted before the first step (`dmml.backbone.backbone.Backbone`); null removes it. A student with a teacher
            copies the teacher's backbone without RNA.
        shared: Arguments of `FittedNetwork`.

    Attributes:
        backbone: The backbone, or None for a model without one.
        deep_share, program_share: () buffers, by which the deep part's logits and programs are multiplied; they exist
            only if there is a backbone. Otherwise the share is 1.
    """

    deep_share: Tensor
    program_share: Tensor

    def __init__(self, backbone: Callable[[], Backbone] | None = Backbone, **shared: Any):
        super().__init__(**shared)
        self.backbone: Backbone | None = None if backbone is None else backbone()
        if self.backbone is not None:
            self.register_buffer("deep_share", torch.ones(()))
            self.register_buffer("program_share", torch.ones(()))
            if self.fitted.get("backbone"):
                self.backbone.build(self.fitted["backbone"])

    @property
    def has_backbone(self) -> bool:
        """Whether the model has a fitted backbone."""
        return self.backbone is not None and self.backbone.is_fitted

    def _require_backbone(self) -> Backbone:
        if self.backbone is None:
            raise RuntimeError("the model has no backbone")
        return self.backbone

    def _available(self, batch: Batch) -> Tensor:
        """Return (M, B) bool, whether a patient has tokens at a magnification."""
        none = torch.zeros_like(batch.has_expression)
        return torch.stack([batch.bags[m].mask.any(1) if m in batch.bags else none for m in self.magnifications])

    def _backbone_statistics(self, batch: Batch) -> dict[str, SlideStatistics]:
        """Return {"10x": statistics module of that magnification, …}; {} if the backbone need not read this batch."""
        if not self.has_backbone:
            return {}
        return {name: cast(SlideStatistics, each) for name, each in self._require_backbone().statistics.items()}

    def _backbone_output(
        self, batch: Batch, bags: Mapping[int, Bag], reads_rna: Tensor, statistics: Mapping[int, dict[str, Tensor]]
    ) -> BackboneOutput | None:
        """Return the backbone's output; None without a fitted backbone.

        Args:
            batch: The batch.
            bags: {m: Bag} of the batch.
            reads_rna: (B,) bool, whether a patient's RNA is read.
            statistics: {m: {statistic: (B, columns)}}, computed by the modules of `_backbone_statistics`.
        """
        if not self.has_backbone:
            return None
        return self._require_backbone().forward_from_statistics(statistics, bags, batch.expression, reads_rna)

    def _total_programs(
        self, deep: dict[tuple[int, str], Tensor], backbone: BackboneOutput | None
    ) -> dict[tuple[int, str], Tensor]:
        """Return {(m, s): (B, P)}: the backbone's programs plus the deep part's programs times their share."""
        base = {} if backbone is None else backbone.programs
        share = self._share("program_share") if base else 1.0
        return {key: base[key] + share * value if key in base else value for key, value in deep.items()}

    def _share(self, name: str) -> Tensor | float:
        """Return the chosen share (), or 1 without a fitted backbone."""
        return getattr(self, name) if self.has_backbone else 1.0
