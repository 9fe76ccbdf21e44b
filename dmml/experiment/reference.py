"""What later evaluation compares with: the median risk of the training patients under the model that was chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import LightningModule, Trainer


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
    checkpoint = torch.load(best, map_location="cpu", weights_only=True)
    model.load_state_dict(checkpoint["state_dict"])
    model.to(trainer.strategy.root_device).eval()
    risks = []
    with torch.inference_mode():
        for batch in data.train_patients_in_order():
            predicted = model.predict_step(move_data_to_device(batch, model.device), 0)["predictions"]
            if "risk" not in predicted:
                return None
            risks.append(predicted["risk"].cpu())
    median = torch.cat(risks).quantile(0.5).item()
    checkpoint["hyper_parameters"]["fitted"]["median_risk"] = median
    part = Path(best).with_suffix(".part")
    torch.save(checkpoint, part)
    part.replace(best)
    return median
