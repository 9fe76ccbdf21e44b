"""Gives every patient the same weight, however patients are split into batches, micro-batches and processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from dmml.training.losses.loss_terms import OF_GENE_ATTENTION
from dmml.types import Batch, LossTerms

if TYPE_CHECKING:
    from dmml.data.module import MultimodalDataModule
    from dmml.training.subspace_module import SubspaceModule

Reweighting = Callable[["SubspaceModule", LossTerms, Batch], LossTerms]
"""Maps (module, loss terms of a batch, batch) to the terms that are minimised"""
_WEIGHTS = {
    "consistency": "consistency_weight",
    "programs": "program_weight",
    "decorrelation": "decorrelation_weight",
    "distill_prediction": "prediction_weight",
    "distill_features": "feature_weight",
    "distill_programs": "teacher_program_weight",
}
"""Attribute of a module that holds the weight of each loss term; the weight of the task is 1"""


def unchanged(module: SubspaceModule, terms: LossTerms, batch: Batch) -> LossTerms:
    """Return the terms unchanged: each is the mean over the patients of the batch who have its inputs."""
    return terms


class PatientWeightedLoss(Callback):
    """Turns loss terms from means over a batch into sums over patients.

    By default a term is a mean over the patients of a batch who have its inputs (RNA, an outcome, or both
    magnifications), so a batch with one such patient has as much weight as a batch with eight. With this callback, a
    term is the sum over those patients, divided by their average number per batch. Its expectation is the same, but the
    gradient of a step no longer depends on how its patients are split into micro-batches and processes. This is useful
    with `token_budget`, whose batches differ most, and where several processes must do exactly what one does. Terms
    that compare the patients of a batch with each other (decorrelation, the Cox likelihood, the forms of the
    consistency that compare gene-to-tissue attention) are not changed.
    """

    def __init__(self) -> None:
        self._expected: dict[str, float] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the training patients, and install the reweighting of the loss terms."""
        module = cast("SubspaceModule", pl_module)
        data: MultimodalDataModule = vars(trainer)["datamodule"]
        patients = data.patients("train")
        batches = trainer.num_training_batches * trainer.world_size
        tissue = [data.has_tissue(patient) for patient in patients]
        both = [tissue[i] and all(data.reader.sizes(patient).values()) for i, patient in enumerate(patients)]
        rna = [data.has_expression(patient) for patient in patients]
        counts = {
            "task": data.counts("train")["with_outcome"],
            "consistency": sum(both),
            "programs": sum(a and b for a, b in zip(tissue, rna, strict=True)) * len(module.magnifications),
        }
        distilled = dict.fromkeys(("distill_prediction", "distill_features", "distill_programs"), sum(tissue))
        self._expected = {name: max(count, 1) / batches for name, count in (counts | distilled).items()}
        module.reweighting = self._reweight

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the reweighting of the loss terms."""
        cast("SubspaceModule", pl_module).reweighting = unchanged

    def _reweight(self, module: SubspaceModule, terms: LossTerms, batch: Batch) -> LossTerms:
        available = module._available(batch)  # (M, B)
        counts = patients_of_terms(batch, available)
        total = terms.total
        of_whole_batch = set()
        if getattr(module.task, "likelihood", None) == "cox":
            of_whole_batch.add("task")
        if module.consistency in OF_GENE_ATTENTION:
            of_whole_batch.add("consistency")
        for name, part in terms.parts.items():
            if name in self._expected and name in counts and name not in of_whole_batch:
                weight = getattr(module, _WEIGHTS[name]) if name in _WEIGHTS else 1.0
                total = total + weight * (counts[name] / self._expected[name] - 1) * part
        return LossTerms(total, terms.parts)


def patients_of_terms(batch: Batch, available: Tensor) -> Mapping[str, Tensor]:
    """Return the number of patients over which each term of a batch is averaged.

    For programs, a patient counts once per magnification.

    Args:
        batch: Batch of patients.
        available: (M, B) bool, whether a patient has tokens at a magnification.
    """
    both, some = (available[0] & available[-1]).sum(), available.any(0).sum()
    return {
        "task": batch.target["observed"].sum(),
        "consistency": both,
        "programs": (batch.has_expression & available).sum(),
        **dict.fromkeys(("distill_prediction", "distill_features", "distill_programs"), some),
    }
