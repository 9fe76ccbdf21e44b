"""Mean absolute error as a metric that Lightning collects over the batches of an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor
from torchmetrics import MeanMetric

if TYPE_CHECKING:
    from dmml.tasks.regression import Regression


class AbsoluteError(MeanMetric):
    """Mean absolute error of predicted values, in their units; NaN without patients.

    Args:
        task: The task, which is fitted before the first update.
    """

    def __init__(self, task: Regression):
        super().__init__(nan_strategy="disable")
        self._scale = task.scale

    def update(self, logits: Tensor, target: Mapping[str, Tensor]) -> None:  # type: ignore[override]
        """Add the errors of the patients. (B, 1) logits."""
        mean, sd = self._scale()
        super().update((mean + sd * logits[:, 0].float() - target["value"]).abs())
