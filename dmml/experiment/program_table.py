"""Table of the tested patients' predicted and measured programs, for `programs.csv`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from dmml.callbacks.patient_rows import PatientInputs

if TYPE_CHECKING:
    from dmml.training.subspace_module import SubspaceModule


def program_rows(
    programs: dict[str, dict[tuple[int, str], Any]], inputs: PatientInputs, model: SubspaceModule
) -> list[dict[str, Any]]:
    """Make one row per patient: `patient_id`, `<subspace>|<magnification>x|<program>`, `<subspace>|measured|<program>`.

    Args:
        programs: {patient: {(magnification, subspace): (P,)}} predicted from the tissue.
        inputs: Inputs of the model; of them, the standardised genes of the patients with RNA.
        model: Its `scores` map genes to measured programs and name them.

    Returns:
        The rows; empty if the model predicts no programs.
    """
    names: dict[str, list[str]] = model.scores.names
    measured = {s: _measured(inputs.get(s, {}), s, model) for s in names}
    table = []
    for patient, predicted in programs.items():
        row: dict[str, Any] = {}
        for (m, s), scores in predicted.items():
            row |= {f"{s}|{m}x|{name}": float(value) for name, value in zip(names[s], scores, strict=True)}
        for s, scores in measured.items():
            if patient in scores:
                pairs = zip(names[s], scores[patient], strict=True)
                row |= {f"{s}|measured|{name}": float(value) for name, value in pairs}
        table.append({"patient_id": patient, **row})
    return table if any(len(row) > 1 for row in table) else []


def _measured(genes: dict[str, NDArray], subspace: str, model: SubspaceModule) -> dict[str, NDArray]:
    if not genes or not model.scores.names[subspace]:
        return {}
    device = next(model.parameters()).device
    expression = {subspace: torch.from_numpy(np.stack(list(genes.values()))).to(device)}
    with torch.no_grad():
        scores = model.scores(expression, torch.ones(len(genes), dtype=torch.bool, device=device))[subspace]
    return dict(zip(genes, scores.cpu().numpy(), strict=True))
