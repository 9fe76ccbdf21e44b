"""Macro AUC as a metric that Lightning collects over the batches of an epoch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_auroc
from torchmetrics.utilities import dim_zero_cat


class MacroAUC(Metric):
    """Mean one-versus-rest AUC of the classes that some but not all patients have; NaN if there is no such class."""

    full_state_update = False
    higher_is_better = True
    logits: list[Tensor]
    label: list[Tensor]

    def __init__(self, n_classes: int):
        super().__init__()
        self.n_classes = n_classes
        for name in ("logits", "label"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, target: Mapping[str, Tensor]) -> None:
        """Store logits and labels."""
        self.logits.append(logits.float())
        self.label.append(target["label"])

    def compute(self) -> Tensor:
        """Compute the AUC over all patients seen."""
        if not len(self.logits):
            return torch.tensor(float("nan"))
        logits, label = dim_zero_cat(self.logits), dim_zero_cat(self.label)
        counts = torch.bincount(label, minlength=self.n_classes)
        defined = (counts > 0) & (counts < len(label))
        if not defined.any():
            return torch.tensor(float("nan"), device=self.device)
        probability = logits.softmax(1)
        # A class that no patient or every patient has is without a curve, and torchmetrics would warn about it.
        values = [binary_auroc(probability[:, c], label == c) for c in defined.nonzero().flatten().tolist()]
        return torch.stack(values).mean()
