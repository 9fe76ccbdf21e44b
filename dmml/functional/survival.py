"""Discrete-time survival: likelihoods, curves, risk and concordance.

K − 1 edges divide time into K intervals; the interval of a time is the number of edges ≤ time. Logits (B, K) belong to
the hazards h_k = P(event in interval k | alive before it). Higher risk is worse; event 1 = happened.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn.functional import logsigmoid

from dmml.functional.precision import at_least_float32

_SMALL = -12.0
"""Logit below which log(softplus(x)) equals x − exp(x)/2 to the last digit of float32."""


def discrete_time_nll(logits: Tensor, interval: Tensor, event: Tensor, alpha: float = 0.0) -> Tensor:
    """Negative log-likelihood of discrete-time hazards under right censoring.

    An event in interval y contributes −(log S_{y−1} + log h_y), and censoring in y contributes −log S_y · (1 − alpha).
    Since log h = logsigmoid(x) and log(1 − h) = logsigmoid(−x), loss and gradient are finite for every finite logit.

    Args:
        logits: (B, K) of the hazards.
        interval: (B,) integer, 0 … K − 1.
        event: (B,) 1 = happened, 0 = censored.
        alpha: Share by which censored patients are down-weighted.

    Returns:
        (B,) float32, or float64 for float64 logits.

    Source: Zadeh & Schmid 2021, eq. 4; the form used by MCAT and by the paper's released code (which clamps at 1e-7, so
    that saturated hazards have no gradient).
    """
    logits = at_least_float32(logits)
    event = event.to(logits.dtype)
    steps = torch.arange(logits.shape[1], device=logits.device)
    index = interval.long().unsqueeze(1)  # (B, 1)
    log_alive = logsigmoid(-logits)  # (B, K), log(1 - h_k)
    before = (log_alive * (steps < index)).sum(1)  # (B,), log S_{y-1}
    at = log_alive.gather(1, index).squeeze(1)
    hit = logsigmoid(logits).gather(1, index).squeeze(1)
    return -(event * (before + hit) + (1 - event) * (1 - alpha) * (before + at))


def followed_log_likelihood(logits: Tensor, interval: Tensor, event: Tensor, exposure: Tensor) -> Tensor:
    """Log-likelihood of follow-up to a known day, with a constant hazard (log-linear survival) within each interval.

    With u the share of interval y that was followed and Λ_y = −log(1 − h_y) its cumulative hazard, an event contributes
    log S_{y−1} + log Λ_y − u Λ_y, and censoring contributes log S_{y−1} − u Λ_y. `discrete_time_nll` uses only the
    interval: it assumes that censored patients stay event-free to the end of an interval that was not fully followed,
    and it cannot distinguish early from late events. In a wide last interval both make survival look far too good.

    Args:
        logits: (B, K) of the hazards.
        interval: (B,) int64, interval of the event or of censoring.
        event: (B,) 1 = happened, 0 = censored.
        exposure: (B,) share of the interval that was followed, 0 to 1.

    Returns:
        (B,).
    """
    log_alive = logsigmoid(-logits)
    column = interval.unsqueeze(1)
    before = (log_alive.cumsum(1) - log_alive).gather(1, column).squeeze(1)
    alive = log_alive.gather(1, column).squeeze(1)
    died = log_interval_hazard(logits).gather(1, column).squeeze(1)
    return before + event * died + exposure.to(logits.dtype) * alive


def log_interval_hazard(logits: Tensor) -> Tensor:
    """Log cumulative hazard of each interval, log Λ_k = log(−log(1 − h_k)). (B, K) → (B, K).

    For small hazards it approaches the logit itself, so that for logits of ±1e4 it is finite, with a finite gradient
    that does not vanish. Half precision is promoted to float32.
    """
    logits = at_least_float32(logits)
    small = _SMALL if logits.dtype == torch.float32 else 2 * _SMALL
    # Both branches of `where` must be finite: a non-finite branch makes the gradient NaN even if it is not selected.
    exact = (-logsigmoid(-logits.clamp_min(small))).log()
    limit = logits - logits.clamp_max(small).exp() / 2
    return torch.where(logits > small, exact, limit)


def survival_curve(logits: Tensor) -> Tensor:
    """Probability of being event-free at the end of interval k, S_k = Π_{j ≤ k} (1 − h_j). (B, K) → (B, K)."""
    return logsigmoid(-at_least_float32(logits)).cumsum(1).exp()


def interval_probabilities(logits: Tensor) -> Tensor:
    """Distribution of the event over the K intervals, S_{k−1} h_k, and beyond the last one, S_K. (…, K) → (…, K + 1)."""
    logits = at_least_float32(logits)
    log_alive = logsigmoid(-logits).cumsum(-1)  # (…, K), log S_k
    before = torch.nn.functional.pad(log_alive[..., :-1], (1, 0))
    return torch.cat([before + logsigmoid(logits), log_alive[..., -1:]], -1).exp()


def risk_score(logits: Tensor) -> Tensor:
    """Risk score −Σ_k S_k; higher is worse. (B, K) → (B,)."""
    return -survival_curve(logits).sum(1)


def interval_edges(time: Tensor, event: Tensor, n_intervals: int) -> Tensor:
    """Return edges that split the event times into equally filled intervals.

    Args:
        time: (B,) days.
        event: (B,) 1 = happened; censored times do not affect the edges.
        n_intervals: K.

    Returns:
        (K − 1,) float64, the quantiles 1/K … (K − 1)/K of the event times.

    Raises:
        ValueError: No patient has an event.
    """
    times = torch.as_tensor(time, dtype=torch.float64)[torch.as_tensor(event) > 0]
    if times.numel() == 0:
        raise ValueError("interval_edges needs at least one event; all patients given are censored")
    return time_quantiles(times, n_intervals)


def time_quantiles(time: Tensor, n_intervals: int) -> Tensor:
    """Return the quantiles 1/K … (K − 1)/K of times, with linear interpolation between neighbouring times.

    Args:
        time: (B,) days, at least one.
        n_intervals: K.

    Returns:
        (K − 1,) float64.
    """
    times = torch.as_tensor(time, dtype=torch.float64)
    return torch.quantile(times, torch.arange(1, n_intervals, dtype=torch.float64, device=times.device) / n_intervals)


def time_to_interval(time: Tensor, edges: Tensor) -> Tensor:
    """Return the interval of each time, the number of edges ≤ time. (B,), (K − 1,) → (B,) int64."""
    # Compare in the precision of the times: an edge may equal one of them, which belongs to the interval it opens.
    time = time if time.is_floating_point() else time.double()
    return torch.searchsorted(edges.to(time.dtype), time.contiguous(), right=True)


def survival_at(curve: Tensor, edges: Tensor, end: float, days: Tensor) -> Tensor:
    """Survival on given days: 1 on day 0, S_k at edge k, S_K at `end`, and log-linear in between.

    Args:
        curve: (B, K) from `survival_curve`.
        edges: (K − 1,) days.
        end: End of the last interval, days.
        days: (T,) days.

    Returns:
        (B, T) float64; NaN before day 0 and after `end`, where survival is undefined.
    """
    days = torch.as_tensor(days, dtype=torch.float64, device=curve.device)
    edges = torch.as_tensor(edges, dtype=torch.float64, device=curve.device)
    knots = torch.cat([edges.new_zeros(1), edges, edges.new_tensor([end])])  # (K + 1,)
    log_curve = curve.double().clamp_min(1e-300).log()
    log_curve = torch.cat([log_curve.new_zeros(len(curve), 1), log_curve], dim=1)  # (B, K + 1)
    # The first knot that is not before a day; counted, because ONNX has no binary search. (T,)
    right = (knots < days.unsqueeze(1)).sum(1).clamp(1, len(knots) - 1)
    left = right - 1
    width = (knots[right] - knots[left]).clamp_min(1e-12)
    share = ((days - knots[left]) / width).clamp(0, 1)
    value = torch.lerp(log_curve[:, left], log_curve[:, right], share.expand(len(curve), -1)).exp()
    return value.masked_fill((days > end) | (days < 0), float("nan"))


def concordance_index(time: Tensor | ArrayLike, event: Tensor | ArrayLike, risk: Tensor | ArrayLike) -> float:
    """Harrell's concordance: share of comparable pairs in which the patient who dies first has the higher risk.

    A pair (i, j) is comparable if i has the event and t_i < t_j, or t_i = t_j and j is censored. Tied risks count half.
    1 = perfect, 0.5 = chance, NaN = no comparable pair.

    Args:
        time: (B,) days.
        event: (B,) 1 = happened.
        risk: (B,) higher = worse.

    Source: Harrell et al. 1982; agrees with `lifelines.utils.concordance_index(time, -risk, event)`.
    """
    times, events, risks = (_as_double(x) for x in (time, event, risk))
    order = torch.argsort(times, stable=True)
    times, events, risks = times[order], events[order], risks[order]
    concordant = pairs = 0.0
    # Blocks of 1,024 rows keep memory linear in the size of the cohort.
    for start in range(0, len(times), 1024):
        t, e, r = (x[start : start + 1024, None] for x in (times, events, risks))
        comparable = (e > 0) & ((t < times) | ((t == times) & (events <= 0)))
        concordant += ((r > risks) & comparable).sum().item() + 0.5 * ((r == risks) & comparable).sum().item()
        pairs += comparable.sum().item()
    return concordant / pairs if pairs else float("nan")


def _as_double(x: Tensor | ArrayLike) -> Tensor:
    """Convert to (B,) float64 on the CPU; an array is copied, because it may be read-only or have negative strides."""
    x = x.detach() if isinstance(x, Tensor) else torch.from_numpy(np.array(x, dtype=np.float64))
    return x.double().cpu().flatten()
