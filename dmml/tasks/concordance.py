"""Harrell's concordance as a metric that Lightning collects over the batches of an epoch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities import dim_zero_cat

from dmml.functional.survival import concordance_index, risk_score


class Concordance(Metric):
    """Harrell's concordance of the risk from hazard logits (B, K); NaN if no pair is comparable."""

    full_state_update = False
    higher_is_better = True
    time: list[Tensor]
    event: list[Tensor]
    risk: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("time", "event", "risk"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, target: Mapping[str, Tensor]) -> None:
        """Store the times, events and risks of the patients."""
        self.time.append(target["time"])
        self.event.append(target["event"])
        self.risk.append(risk_score(logits))

    def compute(self) -> Tensor:
        """Compute the concordance over all patients seen."""
        if not len(self.time):
            return torch.tensor(float("nan"))
        value = concordance_index(*(dim_zero_cat(x) for x in (self.time, self.event, self.risk)))
        return torch.tensor(value, device=self.device)


def risk_metrics() -> MetricCollection:
    """Return the metrics of a risk."""
    return MetricCollection({"c_index": Concordance()})
