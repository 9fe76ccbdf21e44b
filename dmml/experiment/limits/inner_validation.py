"""Calibrates what a task promises of single patients on the inner validation, read from slides alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from dmml.evaluation.limits.prediction_sets import too_few
from dmml.evaluation.limits.quantiles import min_sample
from dmml.tasks.conformal import Conformal
from dmml.types import Batch

if TYPE_CHECKING:
    from dmml.data.module import MultimodalDataModule
    from dmml.training.subspace_module import SubspaceModule


def conformal_calibration(model: SubspaceModule, data: MultimodalDataModule) -> dict[str, Any]:
    """Calibrate the promises of the model's task on the patients of the inner validation who have slides.

    The patients are predicted as `dmml predict-slide` predicts new ones, without RNA. The backbone was fitted to them, so
    that one fitted to the training patients alone stands in for it.

    Args:
        model: The fitted model with the weights of its best epoch, in eval mode; it is still attached to its trainer.
        data: Its data module.

    Returns:
        The calibration in plain Python, with a `reason` if there are too few patients; {} if the task promises nothing or
        no patient can be used.
    """
    promises = model.task.conformal()
    n_patients = sum(map(data.has_tissue, data.patients("val")))
    if type(promises) is Conformal or not n_patients:
        return {}
    # To find this out before the backbone is fitted spares the fit.
    if promises.level is not None and n_patients < min_sample(1 - promises.level):
        return {"n": n_patients, "reason": too_few(n_patients, promises.level)}
    logits: list[Tensor] = []
    targets: list[dict[str, Tensor]] = []
    with model.backbone_without_validation(data), torch.inference_mode():
        for batch in data.val_patients_in_order():
            batch = move_data_to_device(_without_rna(batch), model.device)
            counts = _has_tiles(batch) & batch.target["observed"]
            logits.append(model(batch).logits[counts].float().cpu())
            targets.append({name: values[counts].cpu() for name, values in batch.target.items()})
    if not sum(map(len, logits)):
        return {}
    target = {name: torch.cat([each[name] for each in targets]) for name in targets[0]}
    return promises.fit(torch.cat(logits), target, model.fitted.get("censoring"))


def _without_rna(batch: Batch) -> Batch:
    expression = {name: torch.zeros_like(values) for name, values in batch.expression.items()}
    return replace(batch, expression=expression, has_expression=torch.zeros_like(batch.has_expression))


def _has_tiles(batch: Batch) -> Tensor:
    """(B,) bool, whether a patient has tiles at any magnification."""
    masks = [bag.mask.any(1) for bag in batch.bags.values()]
    return torch.stack(masks).any(0) if masks else torch.zeros_like(batch.has_expression)
