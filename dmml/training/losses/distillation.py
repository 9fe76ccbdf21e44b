"""Distillation: distances between the outputs of student and teacher, and the epoch at which distillation begins."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.nn.functional import layer_norm

from dmml.functional.consistency import expression_consistency
from dmml.types import SUBSPACES, SubspaceOutput


def first_epoch(trainer: Trainer, share: float) -> int:
    """Return the epoch, counted from 0, at which distillation begins.

    Args:
        trainer: Trainer during a fit.
        share: Share of the planned epochs that come before distillation, at least 0 and below 1. Distillation begins at
            once if the share is 0 or the run has no planned end. The number of epochs is rounded down, so that at least
            one planned epoch is left for distillation.
    """
    steps = trainer.estimated_stepping_batches
    if not share or not math.isfinite(steps):
        return 0
    steps_per_epoch = max(1, math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches))
    return int(share * math.ceil(steps / steps_per_epoch))


def restart_patience(trainer: Trainer) -> None:
    """Restart the patience of early stopping, because from here on a different loss is minimised."""
    for callback in trainer.early_stopping_callbacks:
        callback.wait_count = 0


def prediction_distance(
    divergence: Callable[[Tensor, Tensor], Tensor],
    student: SubspaceOutput,
    teacher: SubspaceOutput,
    rows: Mapping[int, Tensor],
) -> Tensor:
    """Softened divergence from the teacher, averaged over the magnifications and their combination.

    The paper distils the prediction, and does not say of which logits. Here the student learns the teacher's prediction
    at each magnification and the combined one, each with the same weight.

    Args:
        divergence: Maps the logits (B, C) of student and teacher to (B,).
        student: Output of the student.
        teacher: Output of the teacher.
        rows: {m: (B,) bool, whether a patient has tokens}, for the magnifications that both models have.
    """
    some = torch.stack(list(rows.values())).any(0)
    values = [mean_over(divergence(student.logits, teacher.logits), some)]
    for m, with_tokens in rows.items():
        of_m = divergence(student.logits_by_magnification[m], teacher.logits_by_magnification[m])
        values.append(mean_over(of_m, with_tokens))
    return torch.stack(values).mean()


def embedding_distance(student: SubspaceOutput, teacher: SubspaceOutput, rows: Mapping[int, Tensor]) -> Tensor:
    """Mean squared distance of the embeddings after layer norm, which teaches their direction but not their scale.

    Args:
        student: Output of the student.
        teacher: Output of the teacher, with embeddings of the same width.
        rows: See `prediction_distance`.
    """

    def distance(a: Tensor, b: Tensor) -> Tensor:
        width = a.shape[1:]
        return (layer_norm(a.float(), width) - layer_norm(b.float(), width)).square().mean(1)

    pairs = [(m, s) for m in rows for s in SUBSPACES]
    values = [mean_over(distance(student.embeddings[p], teacher.embeddings[p]), rows[p[0]]) for p in pairs]
    return torch.stack(values).mean()


def squared_embedding_distance(student: SubspaceOutput, teacher: SubspaceOutput, rows: Mapping[int, Tensor]) -> Tensor:
    """‖X̂_R − X_R‖² of the joined embeddings [X^T; X^E], averaged over the magnifications; arguments as above.

    A magnification's value is the mean over its patients. The task loss and the divergence are averaged over the
    magnifications in the same way.

    Source: eq. 14 of the paper.
    """

    def joined(output: SubspaceOutput, m: int) -> Tensor:
        return torch.cat([output.embeddings[m, s].float() for s in SUBSPACES], 1)

    values = [mean_over((joined(student, m) - joined(teacher, m)).square().sum(1), rows[m]) for m in rows]
    return torch.stack(values).mean()


FEATURE_DISTANCES: dict[str, Callable[[SubspaceOutput, SubspaceOutput, Mapping[int, Tensor]], Tensor]] = {
    "direction": embedding_distance,
    "squared": squared_embedding_distance,
}
"""Values of `feature_distance`, and the distance that each names"""


def program_distance(student: SubspaceOutput, teacher: SubspaceOutput, rows: Mapping[int, Tensor]) -> Tensor:
    """Mean squared distance of the predicted programs; arguments as in `embedding_distance`."""
    pairs = [(m, s) for m in rows for s in SUBSPACES]
    values = [mean_over(expression_consistency(student.programs[p], teacher.programs[p]), rows[p[0]]) for p in pairs]
    return torch.stack(values).mean()


def mean_over(values: Tensor, rows: Tensor) -> Tensor:
    """Mean of values (B,) over the patients in a mask; 0 if it is empty.

    The mask is applied as weights, because indexing by it would make the host wait for the GPU.
    """
    return (values * rows).sum() / rows.sum().clamp_min(1)
