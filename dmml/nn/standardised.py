"""A linear layer on features standardised by the mean and standard deviation of the training patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class StandardisedLinear(nn.Linear):
    """Linear layer W (x − mean) / scale + b; the statistics are folded into the weight to avoid copying the features.

    Before `set_feature_statistics`, the mean is 0 and the scale is 1. Both are buffers and thus part of the checkpoint.

    Args:
        n_features: Width D of the features.
        width: Width d of the output.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, n_features: int, width: int):
        super().__init__(n_features, width)
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))

    def forward(self, features: Tensor) -> Tensor:
        """Apply the layer. (…, D) → (…, d)."""
        with torch.autocast(features.device.type, enabled=False):
            weight, bias = self.folded()
        return nn.functional.linear(features, weight, bias)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return the weight (d, D) and bias (d,) to apply to features that are not standardised."""
        weight = self.weight / self.scale
        return weight, self.bias - weight @ self.mean


def set_feature_statistics(model: nn.Module, statistics: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Set the statistics of every `StandardisedLinear` in a model to those of its magnification.

    Args:
        model: Any module; a `StandardisedLinear` has the magnification in its name, e.g. `projection.10x.linear`.
        statistics: {"<magnification>": {"mean": D numbers, "scale": D numbers}}.
    """
    for name, layer in model.named_modules():
        if not isinstance(layer, StandardisedLinear):
            continue
        for magnification, values in statistics.items():
            if f"{magnification}x" in name.split("."):
                layer.mean.copy_(torch.tensor(values["mean"]))
                layer.scale.copy_(torch.tensor(values["scale"]))
