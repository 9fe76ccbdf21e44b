"""What later evaluation compares with: the median risk of the training patients under the model that was chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer

from dmml.callbacks.collection import CollectPredictions


def add_training_reference(trainer: Trainer, model: LightningModule, data: Any) -> float | None:
    """Predict the training patients with the best checkpoint and write their median risk into it.

    The Kaplan–Meier cut of every later cohort is this median, so no tested cohort chooses its own.

    Args:
        trainer: After fit.
        model: The model that was fitted.
        data: Its data module.

    Returns:
        The median risk; None for tasks without a risk, or where no best checkpoint was written.
    """
    best = getattr(trainer.checkpoint_callback, "best_model_path", "")
    if not best or not hasattr(data, "train_patients_in_order"):
        return None
    collector = next(callback for callback in trainer.callbacks if isinstance(callback, CollectPredictions))
    trainer.predict(
        model, dataloaders=data.train_patients_in_order(), ckpt_path=best, return_predictions=False, weights_only=True
    )
    risks = [row["risk"] for row in collector.rows if "risk" in row]
    if not risks:
        return None
    median = float(np.median(risks))
    if not trainer.is_global_zero:
        return median
    checkpoint = torch.load(best, map_location="cpu", weights_only=True)
    checkpoint["hyper_parameters"]["fitted"]["median_risk"] = median
    part = Path(best).with_suffix(".part")
    torch.save(checkpoint, part)
    part.replace(best)
    return median
