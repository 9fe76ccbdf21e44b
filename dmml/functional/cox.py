"""Cox's partial likelihood of the patients of one batch, and the log-risk that discrete hazards give it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

_SMALL = -12.0
"""Logit below which log(softplus(x)) is x − exp(x)/2 to the last digit of float32."""


def log_cumulative_hazard(logits: Tensor) -> Tensor:
    """η = log Λ(end) = log(−Σ_k log(1 − h_k)), the log of the cumulative hazard at the end of the last interval.

    Under proportional hazards Λ_i(end) = Λ_0(end) · exp(η_i), so η is a log-risk up to a constant, which the partial
    likelihood does not see. −log(1 − h_k) = −logsigmoid(−x_k), and η is the logsumexp over k of its log, which for
    small hazards is the logit itself: finite, with a finite gradient that does not vanish, for logits of ±1e4.

    Args:
        logits: (B, K) of the hazards h_k = σ(x_k).

    Returns:
        (B,) float32, or float64 where the logits are; higher is worse.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    small = _SMALL if logits.dtype == torch.float32 else 2 * _SMALL
    # Both branches of the where must be finite, or the one that is not taken turns the gradient into NaN.
    exact = (-logsigmoid(-logits.clamp_min(small))).log()
    limit = logits - logits.clamp_max(small).exp() / 2
    return torch.where(logits > small, exact, limit).logsumexp(1)


def cox_partial_nll(log_risk: Tensor, time: Tensor, event: Tensor, observed: Tensor) -> Tensor:
    """Negative log partial likelihood of each event: log Σ_{j: t_j ≥ t_i} exp(η_j) − η_i. Ties as Breslow has them.

    Sums over j run over the observed patients of the batch. A patient without event gives 0 and takes part in the risk
    sets of those who had it before; a patient whose outcome is not observed takes no part at all.

    Args:
        log_risk: (B,) η, higher = worse.
        time: (B,) days.
        event: (B,) 1 = happened, 0 = censored.
        observed: (B,) bool.

    Returns:
        (B,) float32, or float64 where `log_risk` is; 0 without event. The sum over a batch is −log PL of the batch.

    Source: Cox 1972; Breslow 1974 for ties; the sum is what `lifelines.CoxPHFitter` maximises where no times tie.
    """
    log_risk = log_risk.to(torch.promote_types(log_risk.dtype, torch.float32))
    log_risk = torch.where(observed, log_risk, 0.0)
    at_risk = (time.unsqueeze(0) >= time.unsqueeze(1)) & observed.unsqueeze(0)  # (B, B), j at risk when i has the event
    at_risk = at_risk | torch.eye(len(time), dtype=torch.bool, device=time.device)  # no row is empty
    alive = log_risk.expand(len(time), -1).masked_fill(~at_risk, float("-inf"))
    return torch.where(observed & (event > 0), alive.logsumexp(1) - log_risk, 0.0)
