"""Loss terms of a model output; each is one scalar over the patients of a batch that its masks select."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dmml.errors import InputError
from dmml.functional.consistency import (
    attention_agreement_variance,
    attention_consistency,
    batch_similarity_variance,
    decorrelation,
    expression_consistency,
)
from dmml.tasks import Task
from dmml.types import SUBSPACES, Batch, LossTerms, SubspaceOutput

if TYPE_CHECKING:
    from dmml.training.subspace_module import SubspaceModule

OF_GENE_ATTENTION = {"dev": attention_agreement_variance, "released_dev": batch_similarity_variance}
"""Forms of the consistency that compare the gene-to-tissue attention of all patients of a batch"""
CONSISTENCIES = ("expression", "attention", *OF_GENE_ATTENTION)


def check_consistency(form: str) -> None:
    """Refuse an unknown form of the consistency.

    Raises:
        InputError: The form was removed.
        ValueError: There is no such form.
    """
    if form == "batch":
        raise InputError(
            "consistency: batch is no form any more; use dev (the paper's loss on gene-to-tissue attention) or released_dev "
            "(the released code's loss on the same attention)"
        )
    if form not in CONSISTENCIES:
        raise ValueError(f"consistency must be one of {', '.join(CONSISTENCIES)}; got {form!r}")


def check_gene_attention(form: str, sizes: Mapping[str, int | None]) -> None:
    """Refuse a form of the consistency that compares gene-to-tissue attention, if a model has none that it can compare.

    Args:
        form: One of `CONSISTENCIES`.
        sizes: {"10x_tumor": number D of values in the attention of that part; None without it, …}; {} = no parts.

    Raises:
        InputError: There is no such attention, or its size differs between the magnifications.
    """
    if form not in OF_GENE_ATTENTION:
        return
    if not sizes or None in sizes.values():
        raise InputError(_no_gene_attention(form, "the fusion" if sizes else "this model"))
    for s in SUBSPACES:
        of_subspace = {key: size for key, size in sizes.items() if key.endswith(f"_{s}")}
        if len(set(of_subspace.values())) > 1:
            text = ", ".join(f"{key} {size}" for key, size in of_subspace.items())
            raise InputError(
                f"consistency: {form} compares the gene-to-tissue attention of both magnifications, whose sizes differ "
                f"({text}); give the fusion the same size at every magnification"
            )


def _no_gene_attention(form: str, subject: str) -> str:
    return (
        f"consistency: {form} compares gene-to-tissue attention, which {subject} does not have; use a teacher with slides "
        "and fusion: PaperFusion, or consistency: expression"
    )


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

    "dev" and "released_dev" compare the patients of a batch with each other. On several processes, each compares those
    of its part of the batch; the released code gathers them. The paper does not say how the subspaces add up; the sum
    is the released code's.

    Args:
        form: One of `CONSISTENCIES`.
        output: Model output for the batch.
        batch: Batch with parent tiles and masks.
        available: (M, B) bool, whether a patient has tokens at a magnification. Patients who lack one of the two are
            left out.

    Raises:
        InputError: The form compares gene-to-tissue attention, and the model has none.
    """
    magnifications = list(output.logits_by_magnification)
    coarse, fine = magnifications[0], magnifications[-1]
    both = available[0] & available[-1]
    if form in OF_GENE_ATTENTION:
        if not output.gene_attention:
            raise InputError(_no_gene_attention(form, "this model"))
        maps = [[output.gene_attention[m, s][both] for m in (coarse, fine)] for s in SUBSPACES]
        return torch.stack([OF_GENE_ATTENTION[form](*pair) for pair in maps]).sum()
    values = []
    for s in SUBSPACES:
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
