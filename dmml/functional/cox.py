"""Cox partial likelihood of one batch, and the log-risk derived from discrete hazards."""

from __future__ import annotations

import torch
from torch import Tensor

from dmml.functional.precision import at_least_float32
from dmml.functional.survival import log_interval_hazard


def log_cumulative_hazard(logits: Tensor) -> Tensor:
    """Log cumulative hazard at the end of the last interval, η = log Λ(end) = log(−Σ_k log(1 − h_k)).

    Under proportional hazards Λ_i(end) = Λ_0(end) · exp(η_i), so η is a log-risk up to a constant, to which the partial
    likelihood is invariant. For logits of ±1e4 it is finite, and its gradient is finite and does not vanish.

    Args:
        logits: (B, K) x of the hazards h_k = σ(x_k).

    Returns:
        (B,) float32, or float64 for float64 logits; higher is worse.
    """
    return log_interval_hazard(logits).logsumexp(1)


def cox_partial_nll(log_risk: Tensor, time: Tensor, event: Tensor, observed: Tensor) -> Tensor:
    """Negative log partial likelihood of each event, log Σ_{j: t_j ≥ t_i} exp(η_j) − η_i, with Breslow's ties.

    The sum over j runs over the observed patients of the batch. A censored patient contributes 0 and belongs to the
    risk sets of all events up to that patient's time; a patient whose outcome is not observed is ignored.

    Args:
        log_risk: (B,) η, higher = worse.
        time: (B,) days.
        event: (B,) 1 = happened, 0 = censored.
        observed: (B,) bool.

    Returns:
        (B,) float32, or float64 for a float64 `log_risk`; 0 without event. The sum over a batch is its −log PL.

    Source: Cox 1972; Breslow 1974 for ties; minus the sum is what `lifelines.CoxPHFitter` maximises if no times tie.
    """
    log_risk = torch.where(observed, at_least_float32(log_risk), 0.0)
    at_risk = (time.unsqueeze(0) >= time.unsqueeze(1)) & observed.unsqueeze(0)  # (B, B), j at risk when i has the event
    at_risk = at_risk | torch.eye(len(time), dtype=torch.bool, device=time.device)  # no row is empty
    alive = log_risk.expand(len(time), -1).masked_fill(~at_risk, float("-inf"))
    return torch.where(observed & (event > 0), alive.logsumexp(1) - log_risk, 0.0)
