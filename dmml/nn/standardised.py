"""A linear layer on features that are standardised by the training patients' mean and standard deviation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class StandardisedLinear(nn.Linear):
    """W (x − mean) / scale + b, with the statistics folded into the weight, so that the features are not copied.

    Before `set_feature_statistics` the mean is 0 and the scale 1. Both are buffers, and so part of the checkpoint.

    Args:
        n_features: D.
        width: d.
    """

    def __init__(self, n_features: int, width: int):
        super().__init__(n_features, width)
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))

    def forward(self, features: Tensor) -> Tensor:
        """(…, D) → (…, d)."""
        with torch.autocast(features.device.type, enabled=False):
            weight, bias = self.folded()
        return nn.functional.linear(features, weight, bias)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight (d, D) and bias (d,) for features that are not standardised."""
        weight = self.weight / self.scale
        return weight, self.bias - weight @ self.mean


def set_feature_statistics(model: nn.Module, statistics: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Set the statistics of every `StandardisedLinear` of a model to those of its magnification.

    Args:
        model: Any module with `StandardisedLinear` under names that hold the magnification, e.g. `projection.10x.linear`.
        statistics: {"<magnification>": {"mean": D numbers, "scale": D numbers}}.
    """
    for name, part in model.named_modules():
        if not isinstance(part, StandardisedLinear):
            continue
        for magnification, values in statistics.items():
            if f"{magnification}x" in name.split("."):
                part.mean.copy_(torch.tensor(values["mean"]))
                part.scale.copy_(torch.tensor(values["scale"]))
