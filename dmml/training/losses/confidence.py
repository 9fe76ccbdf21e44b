"""Confidence of each subspace in the observed outcomes, as sums that add up over micro-batches and ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from dmml.tasks import Task
from dmml.types import SUBSPACES, Batch, SubspaceOutput


@torch.no_grad()
def confidence_sums(task: Task, output: SubspaceOutput, batch: Batch) -> Tensor:
    """Compute the sums of `HasSubspaces.take_confidence` for one batch.

    Args:
        task: Task that computes likelihoods from logits.
        output: Model output for the batch.
        batch: Batch with targets.

    Returns:
        (magnifications, 5): summed log-likelihood under the tumor logits alone and under the TME logits alone, summed
        likelihood under each of the two, and number of observed patients.
    """
    rows = []
    for m in output.logits_by_magnification:
        logits = [output.subspace_logits[m, s] for s in SUBSPACES]
        sums = [task.log_likelihood(x, batch.target).sum() for x in logits]
        sums += [task.paper_confidence(x, batch.target).sum() for x in logits]
        rows.append(torch.stack([*sums, batch.target["observed"].sum().to(sums[0].dtype)]))
    return torch.stack(rows)
