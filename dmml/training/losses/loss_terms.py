"""Loss terms of a model output; each is one scalar over the patients of a batch that its masks select."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dmml.functional.consistency import (
    attention_consistency,
    batch_similarity_variance,
    decorrelation,
    expression_consistency,
)
from dmml.tasks import Task
from dmml.types import SUBSPACES, Batch, LossTerms, SubspaceOutput

if TYPE_CHECKING:
    from dmml.training.subspace_module import SubspaceModule

CONSISTENCIES = ("expression", "attention", "batch")


def task_loss(task: Task, output: SubspaceOutput, batch: Batch, available: Tensor, on_backbone: bool = False) -> Tensor:
    """Mean loss over observed patients, each averaged over the magnifications at which the patient has tokens.

    A patient without tokens is averaged over all magnifications.

    Args:
        task: Task that computes the loss of logits.
        output: Model output for the batch.
        batch: Batch with targets.
        available: (M, B) bool, whether a patient has tokens at a magnification.
        on_backbone: Whether the logits contain those of a calibrated backbone; see `Task.loss_on_backbone`.

    Departs from the released code, which sums over slides: here every patient has the same weight within a batch.
    """
    use = (available | ~available.any(0, keepdim=True)).float()
    loss_of = task.loss_on_backbone if on_backbone else task.loss
    loss = torch.stack([loss_of(logits, batch.target) for logits in output.logits_by_magnification.values()])  # (M, B)
    by_patient = (loss * use).sum(0) / use.sum(0)
    return by_patient.sum() / batch.target["observed"].sum().clamp_min(1)


def consistency_loss(form: str, output: SubspaceOutput, batch: Batch, available: Tensor) -> Tensor:
    """Consistency between the coarsest and the finest magnification, summed over subspaces.

    Args:
        form: "expression", "attention" or "batch".
        output: Model output for the batch.
        batch: Batch with parent tiles and masks.
        available: (M, B) bool, whether a patient has tokens at a magnification. Patients who lack one of the two are
            left out.
    """
    magnifications = list(output.logits_by_magnification)
    coarse, fine = magnifications[0], magnifications[-1]
    both = available[0] & available[-1]
    values = []
    for s in SUBSPACES:
        if form == "batch":
            values.append(
                batch_similarity_variance(output.embeddings[coarse, s][both], output.embeddings[fine, s][both])
            )
            continue
        if form == "expression":
            value = expression_consistency(output.programs[coarse, s], output.programs[fine, s])
        elif coarse in batch.bags and fine in batch.bags:
            attention = output.attention[coarse, s], output.attention[fine, s]
            value = attention_consistency(*attention, batch.parent, batch.bags[coarse].mask)
        else:
            value = torch.zeros_like(both, dtype=torch.float32)
        values.append((value * both).sum() / both.sum().clamp_min(1))
    return torch.stack(values).sum()


def program_loss(output: SubspaceOutput, measured: dict[str, Tensor], with_rna_and_tokens: Tensor) -> Tensor:
    """Squared distance between predicted and measured programs, which ties each subspace to its biology.

    This is the second term of `expression_consistency`, computed for each magnification separately, so that it also
    applies to patients who have only one. A teacher's guided programs are compared with the measured ones in the same
    way.

    Args:
        output: Model output for the batch.
        measured: {subspace: (B, P)}.
        with_rna_and_tokens: (M, B) bool, whether a patient has RNA and has tokens at the magnification.
    """
    rows = dict(zip(output.logits_by_magnification, with_rna_and_tokens, strict=True))
    values = [
        expression_consistency(scores, scores, measured[s], rows[m]).sum()
        for predicted in (output.programs, output.guided_programs)
        for (m, s), scores in predicted.items()
    ]
    return torch.stack(values).sum() / with_rna_and_tokens.sum().clamp_min(1)


def weighted_terms(model: SubspaceModule, batch: Batch, output: SubspaceOutput, available: Tensor) -> LossTerms:
    """Compute the loss terms that teacher and student share, and their sum with the model's weights.

    Args:
        model: Teacher or student.
        batch: Batch with targets.
        output: Model output for the batch.
        available: (M, B) bool, whether a patient has tokens at a magnification.
    """
    parts = {"task": task_loss(model.task, output, batch, available, model.has_backbone)}
    weights = {"task": 1.0}
    if model.consistency_weight and len(model.magnifications) > 1:
        parts["consistency"] = consistency_loss(model.consistency, output, batch, available)
        weights["consistency"] = model.consistency_weight
    if model.program_weight:
        measured = model.scores(batch.expression, batch.has_expression)
        parts["programs"] = program_loss(output, measured, batch.has_expression & available)
        weights["programs"] = model.program_weight
    if model.decorrelation_weight:
        pairs = [(output.embeddings[m, "tumor"], output.embeddings[m, "tme"]) for m in model.magnifications]
        parts["decorrelation"] = torch.stack([decorrelation(a, b) for a, b in pairs]).mean()
        weights["decorrelation"] = model.decorrelation_weight
    total = weights["task"] * parts["task"]
    for name in list(parts)[1:]:
        total = total + weights[name] * parts[name]
    return LossTerms(total, parts)
