"""Cox's partial likelihood of the patients of one batch, and the log-risk that discrete hazards give it."""

from __future__ import annotations

import torch
from torch import Tensor

from dmml.functional.survival import log_interval_hazard


def log_cumulative_hazard(logits: Tensor) -> Tensor:
    """η = log Λ(end) = log(−Σ_k log(1 − h_k)), the log of the cumulative hazard at the end of the last interval.

    Under proportional hazards Λ_i(end) = Λ_0(end) · exp(η_i), so η is a log-risk up to a constant, which the partial
    likelihood does not see. It is finite, with a finite gradient that does not vanish, for logits of ±1e4.

    Args:
        logits: (B, K) of the hazards h_k = σ(x_k).

    Returns:
        (B,) float32, or float64 where the logits are; higher is worse.
    """
    return log_interval_hazard(logits).logsumexp(1)


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
