"""Writes `gene_contributions.csv` of a test: what each measured gene adds to the predictions of a teacher's backbone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmml.backbone.backbone import Backbone
from dmml.callbacks.patient_rows import PatientInputs
from dmml.evaluation.predictions import write_table
from dmml.tasks import Task
from dmml.types import SUBSPACES

if TYPE_CHECKING:
    from dmml.training.subspace_module import SubspaceModule

FILE = "gene_contributions.csv"


@torch.no_grad()
def gene_contributions(
    backbone: Backbone, expression: Mapping[str, Tensor], direction: Tensor
) -> dict[str, NDArray[np.float64]]:
    """Divide what the backbone computes from RNA among genes, exactly.

    A readout of RNA is linear: gene g adds clip((x_g − μ_g) / σ_g) · w_g to the predictor, which the calibration maps to
    logits. The bias of the calibration belongs to no gene.

    Args:
        backbone: A fitted backbone.
        expression: {subspace: (B, G)} standardised, of patients with RNA.
        direction: (C,) weights that reduce logits to one number (`Task.direction`).

    Returns:
        {subspace: (B, G)} contributions; subspaces without a readout of RNA are left out.
    """
    contributions = {}
    for s, values in expression.items():
        readout = backbone.readout(f"rna_{s}")
        if readout is None:
            continue
        weight = backbone.calibration(torch.ones(1, dtype=torch.bool, device=values.device))[1][0]  # (q, C)
        z = ((values.float() - readout.mean) / readout.scale).clamp(-readout.clip, readout.clip)
        contributions[s] = (z * (readout.weight @ weight @ direction)).double().cpu().numpy()
    return contributions


def directions_of(task: Task) -> dict[str, Tensor]:
    """Return the directions (C,) that a task's answers can have: {class: direction}, or {"": direction} if all are the same."""
    directions = task.direction(torch.eye(task.n_outputs))
    if bool((directions == directions[0]).all()):
        return {"": directions[0]}
    names = getattr(task, "classes", None) or [str(c) for c in range(task.n_outputs)]
    return dict(zip(map(str, names), directions, strict=True))


def gene_rows(model: SubspaceModule, inputs: PatientInputs) -> list[dict[str, Any]]:
    """Return one row per gene, subspace and class, the largest mean absolute contributions of each subspace and class first.

    Args:
        model: The tested model.
        inputs: Inputs of the tested patients, one row per patient; those without RNA are left out.

    Returns:
        [] for a model whose backbone reads no RNA, or without patients with RNA.
    """
    if not model.has_backbone or model.backbone is None:
        return []
    backbone, device = model.backbone, model.deep_share.device
    expression = {
        s: torch.from_numpy(np.stack(list(inputs[s].values()))).to(device) for s in SUBSPACES if inputs.get(s)
    }
    rows: list[dict[str, Any]] = []
    for label, direction in directions_of(model.task).items():
        for s, values in gene_contributions(backbone, expression, direction.to(device)).items():
            mean, size = values.mean(axis=0), np.abs(values).mean(axis=0)
            for g in np.argsort(-size, kind="stable"):
                rows.append(
                    {"subspace": s, "gene": (model.genes or {})[s][g]}
                    | ({"class": label} if label else {})
                    | {"mean_contribution": float(mean[g]), "mean_absolute_contribution": float(size[g])}
                    | {"patients": len(values)}
                )
    return rows


def write_gene_contributions(folder: Path, model: SubspaceModule, inputs: PatientInputs) -> None:
    """Write the file into the folder of a test, unless no gene contributes (see `gene_rows`)."""
    (folder / FILE).unlink(missing_ok=True)
    if rows := gene_rows(model, inputs):
        write_table(folder / FILE, rows)
