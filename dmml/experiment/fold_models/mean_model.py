"""Several models of the same kind as one network, whose output is the mean of their outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from dmml.types import Batch, SubspaceOutput

if TYPE_CHECKING:
    from dmml.networks.subspace_network import SubspaceNetwork
    from dmml.tasks import Task


class MeanModel:
    """The mean of the outputs of several networks: of their logits, parts of logits, attention and programs.

    What explains a model by running it on parts of a slide explains this one in the same way. Predictions are not taken
    from its logits: the models of a cross-validation have other survival intervals, and their predictions are averaged.

    Args:
        models: Networks in eval mode with the same task, magnifications and programs.
    """

    def __init__(self, models: Sequence[SubspaceNetwork]):
        self._models = tuple(models)

    @property
    def task(self) -> Task:
        """Task of the first model."""
        return self._models[0].task

    @property
    def magnifications(self) -> tuple[int, ...]:
        """Magnifications of the models."""
        return tuple(self._models[0].magnifications)

    def __call__(self, batch: Batch) -> SubspaceOutput:
        """Run all models."""
        return mean_output([model(batch) for model in self._models])


def mean_output(outputs: Sequence[SubspaceOutput]) -> SubspaceOutput:
    """Average outputs entry by entry; what only some of them have, and clusters, are left out."""
    if len(outputs) == 1:
        return outputs[0]
    averaged: dict[str, Any] = {}
    for field in fields(SubspaceOutput):
        if field.name != "prototypes":  # numbers of clusters, each of its own model
            averaged[field.name] = _mean([getattr(output, field.name) for output in outputs])
    return SubspaceOutput(**averaged)


def _mean(values: Sequence[Tensor | Mapping[Any, Tensor] | None]) -> Tensor | dict[Any, Tensor] | None:
    first = values[0]
    if isinstance(first, Mapping):
        maps = cast("Sequence[Mapping[Any, Tensor]]", values)
        shared = [key for key in first if all(key in each for each in maps)]
        return {key: torch.stack([each[key] for each in maps]).mean(0) for key in shared}
    tensors = [value for value in values if isinstance(value, Tensor)]
    return torch.stack(tensors).mean(0) if len(tensors) == len(values) else None
