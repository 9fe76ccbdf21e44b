"""Checkpoints of small students with random weights and, on request, a fitted backbone, as `dmml fit` would write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from batches import DIM, GENES
from fitted_backbones import fitted_backbone
from models import PROGRAMS, build

from dmml.networks.checkpoint_content import FORMAT, FORMAT_KEY

ENCODER = {"name": "a test encoder", "weights": "ab" * 32, "dim": DIM, "preprocessing": {"size": 224}}


def student_checkpoint(
    path: Path, kind: str = "survival", with_backbone: bool = True, seed: int = 0, **changes: Any
) -> Path:
    """Write the checkpoint of a student in which every part has an effect on the prediction.

    Args:
        path: The file.
        kind: Kind of the task.
        with_backbone: Whether it has a fitted backbone, and a deep part with a share of one half.
        seed: Seed of the weights.
        changes: Other arguments of the student.
    """
    torch.manual_seed(seed)
    statistics = {str(m): {"mean": [0.1] * DIM, "scale": [1.5] * DIM} for m in changes.get("magnifications", (10, 20))}
    fitted = {"encoder": ENCODER, "cohort": "made up", "n_training": 48, "fold": 1, "feature_statistics": statistics}
    backbone = fitted_backbone(kind)[0] if with_backbone else None
    if backbone is None:
        changes["backbone"] = None
    student = build("student", kind, genes=GENES, programs=PROGRAMS, **changes)
    if backbone is not None:
        student.backbone.copy_without_rna(backbone)
        fitted["backbone"] = student.backbone.layout
        student.deep_share.fill_(0.5)
    for parameter in student.parameters():  # parts that start as the identity would hide a mistake in the graph
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    student.fitted |= fitted
    student._keep_hparams()
    content = {
        "state_dict": student.state_dict(),
        "hyper_parameters": dict(student.hparams),
        FORMAT_KEY: FORMAT,
        "epoch": 3,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path
