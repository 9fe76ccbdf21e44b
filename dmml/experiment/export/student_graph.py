"""A student as a function of one patient's tensors, which exporters can trace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from dmml.experiment.export.names import (
    Described,
    describe_attention,
    describe_column,
    describe_entries,
    describe_logits,
    describe_programs,
    describe_prototypes,
)
from dmml.networks.student_network import StudentNetwork
from dmml.nn.merger import WINDOW
from dmml.nn.paper.clustering import MAX_CANDIDATES
from dmml.types import SUBSPACES, Bag, Batch, SubspaceOutput

_SPARE_TOKENS = -(-MAX_CANDIDATES // WINDOW) * WINDOW + WINDOW
"""Masked tokens that are added to every bag, so that no choice depends on the number of tokens, which may be 0"""


class StudentGraph(nn.Module):
    """A student's prediction for one patient, without padding and batches.

    Bags are filled up with masked tokens, on which nothing depends: to a multiple of `WINDOW`, and by so many that every
    choice by the number of tokens is the same for all patients.

    Args:
        network: The student, in eval mode.
        fill: {magnification: (D,)} values for NaN in the features; {} if none can be missing.

    Shape:
        slides (S,), and for every magnification features (N, D), position (N, 2), slide (N,) → a tensor for each of
        `describe_outputs`, in that order.
    """

    def __init__(self, network: StudentNetwork, fill: dict[int, Tensor] | None = None):
        super().__init__()
        self.network, self.magnifications = network, network.magnifications
        for m, values in (fill or {}).items():
            self.register_buffer(f"fill_{m}x", values)
        self._fills = frozenset(fill or {})

    def forward(self, slides: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Predict one patient; returns the tensors of all outputs."""
        bags = {
            m: self._bag(m, *tensors, n_slides=slides.shape[0])
            for m, tensors in zip(self.magnifications, _in_threes(inputs), strict=True)
        }
        n_tokens = {m: tensors[0].shape[0] for m, tensors in zip(self.magnifications, _in_threes(inputs), strict=True)}
        no_parent = slides.new_zeros(1, 0)
        batch = Batch(["patient"], bags, no_parent, {}, torch.zeros(1, dtype=torch.bool, device=slides.device))
        named = self.named_outputs(self.network(batch), n_tokens)
        return tuple(value for _, value in named)

    def _bag(self, magnification: int, features: Tensor, position: Tensor, slide: Tensor, n_slides: int) -> Bag:
        n = features.shape[0]
        length = (n // WINDOW) * WINDOW + _SPARE_TOKENS
        mask = torch.arange(length, device=features.device) < n
        if magnification in self._fills:
            features = torch.where(features.isnan(), self.get_buffer(f"fill_{magnification}x"), features)
        tensors = (
            torch.cat([x, x.new_zeros(length - n, *x.shape[1:])]).unsqueeze(0) for x in (features, position, slide)
        )
        features, position, slide = tensors
        return Bag(features, position, mask.unsqueeze(0), slide, n_slides)

    def named_outputs(self, output: SubspaceOutput, n_tokens: dict[int, int]) -> list[tuple[Described, Tensor]]:
        """Name and explain the parts of a student's output for a single patient.

        Args:
            output: Output for a batch of one patient.
            n_tokens: {m: number of tokens}; what belongs to further, masked tokens is cut off.
        """
        return list(self._named_outputs(output, n_tokens))

    def _named_outputs(self, output: SubspaceOutput, n_tokens: dict[int, int]) -> Iterator[tuple[Described, Tensor]]:
        for name, values in self.network.task.predictions(output.logits).items():
            yield describe_column(name), values[0]
        entries = describe_entries(self.network.task.context())
        yield describe_logits("logits", entries), output.logits[0]
        if output.backbone_logits is not None:
            yield describe_logits("logits_backbone", entries, None, "backbone"), output.backbone_logits[0]
        for m in self.magnifications:
            yield describe_logits(f"logits_{m}x", entries, m), output.logits_by_magnification[m][0]
            for s in SUBSPACES:
                yield describe_logits(f"logits_{m}x_{s}", entries, m, s), output.subspace_logits[m, s][0]
            if m in output.tissue_logits:
                yield describe_logits(f"logits_{m}x_tissue", entries, m, "tissue"), output.tissue_logits[m][0]
            for s in SUBSPACES:
                yield describe_attention(m, s), output.attention[m, s][0, : n_tokens[m]]
            if m in output.tissue_attention:
                yield describe_attention(m, "tissue"), output.tissue_attention[m][0, : n_tokens[m]]
            if m in output.prototypes:
                yield describe_prototypes(m), output.prototypes[m][0, : n_tokens[m]]
            for s in SUBSPACES:
                if (m, s) in output.programs and output.programs[m, s].shape[1]:
                    yield describe_programs(m, s, self.network.scores.names[s]), output.programs[m, s][0]


def plain_batch(magnifications: Sequence[int], slides: Tensor, *inputs: Tensor) -> Batch:
    """Return the batch that `dmml predict` would make of a patient's tensors; a magnification without tokens is left out."""
    bags = {
        m: Bag(features[None], position[None], torch.ones(1, len(features), dtype=torch.bool), slide[None], len(slides))
        for m, (features, position, slide) in zip(magnifications, _in_threes(inputs), strict=True)
        if len(features)
    }
    parent = torch.full((1, 0), -1, dtype=torch.long)
    return Batch(["patient"], bags, parent, {}, torch.zeros(1, dtype=torch.bool))


def _in_threes(inputs: Sequence[Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Group the inputs by magnification: features, position and slide."""
    return [(inputs[i], inputs[i + 1], inputs[i + 2]) for i in range(0, len(inputs), 3)]
