"""Confidence-guided gradient coordination: where two subspaces' gradients conflict, the less confident one yields."""

from __future__ import annotations

import torch
from torch import Tensor

from dmml.functional.precision import at_least_float32

RULES = ("project", "reflect")


def coordinate(
    grad_tumor: Tensor,
    grad_tme: Tensor,
    confidence_tumor: Tensor | float,
    confidence_tme: Tensor | float,
    rule: str = "project",
) -> tuple[Tensor, Tensor, Tensor]:
    """Remove from the less confident side's gradient the component that opposes the other side, row by row.

    For a pair of rows with u·v < 0, where u belongs to the less confident side, and with p = (u·v / v·v) v:
    `project`, the paper's rule, sets u ← u − p, which leaves u·v = 0. `reflect`, the released code's rule, sets
    u ← ‖u − p‖ · (u − 2p) / ‖u − 2p‖, which subtracts the projection twice and so over-corrects to u·v > 0. The surer
    gradient stays as it is. The paper does not say whether whole gradients or their rows are compared; the released
    code compares row by row, one row for each class.

    Args:
        grad_tumor: (C, d).
        grad_tme: (C, d).
        confidence_tumor: Scalar, or (C,) with one value per row; must be the same on every rank.
        confidence_tme: In the same form as `confidence_tumor`.
        rule: "project" (the paper's) or "reflect" (the released code's).

    Returns:
        The two gradients (C, d) and conflict (C,) bool, True where u·v < 0. Rows with equal confidences, zero rows and
        rows without conflict are returned bit-identical.

    Raises:
        ValueError: The rule is unknown.

    Source: eq. 6 of the paper, which projects as PCGrad does (Yu et al. 2020).
    """
    if rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}; got {rule!r}")
    tumor, tme = at_least_float32(grad_tumor), at_least_float32(grad_tme)
    tumor_confidence = torch.as_tensor(confidence_tumor, dtype=tumor.dtype, device=tumor.device).reshape(-1, 1)
    tme_confidence = torch.as_tensor(confidence_tme, dtype=tumor.dtype, device=tumor.device).reshape(-1, 1)
    dot = (tumor * tme).sum(1, keepdim=True)  # (C, 1)
    conflict = dot < 0
    new_tumor = _resolve(tumor, tme, dot, rule)
    new_tme = _resolve(tme, tumor, dot, rule)
    return (
        torch.where(conflict & (tumor_confidence < tme_confidence), new_tumor.to(grad_tumor.dtype), grad_tumor),
        torch.where(conflict & (tme_confidence < tumor_confidence), new_tme.to(grad_tme.dtype), grad_tme),
        conflict.squeeze(1),
    )


def _resolve(u: Tensor, v: Tensor, dot: Tensor, rule: str) -> Tensor:
    """Remove (project) or reverse (reflect) the component of each row of u along v. (C, d) → (C, d)."""
    projection = dot / (v * v).sum(1, keepdim=True).clamp_min(torch.finfo(v.dtype).tiny) * v
    orthogonal = u - projection
    if rule == "project":
        return orthogonal
    mirrored = orthogonal - projection
    length = mirrored.norm(dim=1, keepdim=True).clamp_min(torch.finfo(u.dtype).tiny)
    return orthogonal.norm(dim=1, keepdim=True) * mirrored / length
