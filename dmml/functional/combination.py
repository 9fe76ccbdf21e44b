"""Combinations of the logits of several predictions, such as those of the magnifications, by their confidence or on average."""

from __future__ import annotations

import torch
from torch import Tensor


def weighted_by_confidence(logits: Tensor, confidence: Tensor, available: Tensor) -> Tensor:
    """Gate predictions in logit space: Σ_m w_m logits_m with w_m = c_m / Σ_m c_m over the available predictions.

    Args:
        logits: (M, B, C) of M predictions.
        confidence: (M, B) c_m, above 0.
        available: (M, B) bool; at least one prediction of every row is available.

    Returns:
        (B, C).

    Source: the paper fuses the logits of its magnifications by their confidence, without giving the rule; this one is
    ours.
    """
    weight = confidence * available
    return (logits * (weight / weight.sum(0)).unsqueeze(-1)).sum(0)


def highest_confidence(logits: Tensor, available: Tensor) -> Tensor:
    """Take the prediction with the largest top softmax probability, or the last one in a tie.

    Args:
        logits: (M, B, C) of M predictions.
        available: (M, B) bool; at least one prediction of every row is available.

    Returns:
        (B, C).

    Source: the released code, which applies the softmax to hazard logits, too.
    """
    top = logits.float().softmax(-1).amax(-1).masked_fill(~available, -1.0)  # (M, B)
    last = len(top) - 1 - top.flip(0).argmax(0)  # flipped: of equal values argmax takes the first, here the last
    return logits.gather(0, last[None, :, None].expand(1, -1, logits.shape[-1])).squeeze(0)


def masked_log_mean(log_values: Tensor, log_weight: Tensor) -> Tensor:
    """Log Σ_m w_m exp(v_m), finite with finite gradients if at least one weight is not 0. (M, …), (M, …) → (…)."""
    return torch.logsumexp(log_values + log_weight, 0)
