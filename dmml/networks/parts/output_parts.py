"""Assembles a model's output from the parts of a forward pass: applies the heads and sums all parts."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from dmml.backbone.backbone import BackboneOutput
from dmml.nn.heads import SubspaceHead
from dmml.nn.module_dict import TypedModuleDict
from dmml.tasks import Task
from dmml.types import SUBSPACES, Batch, SubspaceOutput

BySubspace = dict[tuple[int, str], Tensor]
"""{(magnification, subspace): tensor}"""


@dataclass
class DeepParts:
    """What the deep part of a model computes for a batch, before the heads.

    Attributes:
        embeddings: {(m, s): (B, d)}.
        attention: {(m, s): (B, N_m)}.
        programs: {(m, s): (B, P_s)}.
        tissue: {m: (logits (B, C), attention (B, N_m)) of the tissue-specific part}; {} if the model has no such part.
        statistics: {m: {statistic: (B, columns)}} for the backbone; {} if they were not needed.
        prototypes: {m: (B, N_m)} prototype of each token; {} if the model has none.
    """

    embeddings: BySubspace = field(default_factory=dict)
    attention: BySubspace = field(default_factory=dict)
    programs: BySubspace = field(default_factory=dict)
    tissue: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    statistics: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    prototypes: dict[int, Tensor] = field(default_factory=dict)


def assemble_output(
    task: Task,
    heads: TypedModuleDict[SubspaceHead],
    batch: Batch,
    available: Tensor,
    deep: DeepParts,
    programs: BySubspace,
    backbone: BackboneOutput | None = None,
    share: Tensor | float = 1.0,
) -> SubspaceOutput:
    """Apply the heads, add the tissue-specific part, and combine the magnifications.

    Args:
        task: Combines the logits of the magnifications.
        heads: {"10x": `SubspaceHead`, …}, one for every magnification of the model.
        batch: Batch to which the output belongs.
        available: (M, B) bool, whether a patient has tokens at a magnification.
        deep: The deep part. The single padding token of a magnification that the batch lacks is cut off its attention.
        programs: {(m, s): (B, P_s)}, of deep part and backbone together.
        backbone: Output of the backbone, which is added at every magnification, since it reads all of them together.
        share: Factor of the deep part where there is a backbone.
    """
    subspace_logits: BySubspace = {}
    logits: dict[int, Tensor] = {}
    tissue_logits: dict[int, Tensor] = {}
    for name, head in heads.items():
        m = int(name.removesuffix("x"))
        parts = head({s: deep.embeddings[m, s] for s in SUBSPACES})
        if m in deep.tissue:
            parts["tissue"] = deep.tissue[m][0]
        if backbone is not None:
            base = backbone.subspaces | {"tissue": backbone.tissue}
            parts = {name: value + share * parts[name] if name in parts else value for name, value in base.items()}
        subspace_logits |= {(m, s): parts[s] for s in SUBSPACES}
        if "tissue" in parts:
            tissue_logits[m] = parts["tissue"]
        logits[m] = sum(parts.values())
    n_tokens = {m: batch.bags[m].features.shape[1] if m in batch.bags else 0 for m in logits}
    return SubspaceOutput(
        logits=task.combine(torch.stack(list(logits.values())), available),
        logits_by_magnification=logits,
        subspace_logits=subspace_logits,
        embeddings=deep.embeddings,
        attention={(m, s): values[:, : n_tokens[m]] for (m, s), values in deep.attention.items()},
        programs=programs,
        tissue_logits=tissue_logits,
        tissue_attention={m: part[1][:, : n_tokens[m]] for m, part in deep.tissue.items()},
        backbone_logits=None if backbone is None else sum(backbone.subspaces.values()) + backbone.tissue,
        backbone_programs={} if backbone is None else backbone.programs,
        prototypes={m: values[:, : n_tokens[m]] for m, values in deep.prototypes.items()},
    )
