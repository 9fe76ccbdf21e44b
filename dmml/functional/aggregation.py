"""Informative token aggregation: density-peaks clustering and the merging of a cluster into one token."""

from __future__ import annotations

import torch
from torch import Tensor


def dpc_knn(tokens: Tensor, mask: Tensor, n_clusters: int, k: int = 5) -> tuple[Tensor, Tensor]:
    """Exact, deterministic density-peaks clustering with k nearest neighbours (DPC-kNN).

    D_ij = ‖x_i − x_j‖ / √d; density ρ_i = exp(−mean of the k smallest D², self included); δ_i = distance to the
    nearest denser token, for the densest the largest D of its sample. Centres are the tokens of the highest ρδ, in
    descending order, which is the cluster's index; every token joins its nearest centre. Ties go to the lower index.

    Args:
        tokens: (B, N, d).
        mask: (B, N) bool; masked tokens take no part.
        n_clusters: Number of centres.
        k: Neighbours that density is measured with; with fewer than k tokens, all of them.

    Returns:
        assignment (B, N) int64, −1 for masked tokens; centres (B, n_clusters) int64, −1 where a sample has fewer
        tokens than clusters. Memory is B · N²: give it windows, not slides.

    Source: Du et al. 2016. Departs from the released code, which adds noise to the density: its answer for repeated
    tokens is random.
    """
    batch, n, dim = tokens.shape
    if n == 0:
        return mask.new_zeros((batch, 0), dtype=torch.long), mask.new_full((batch, n_clusters), -1, dtype=torch.long)
    with torch.no_grad():
        # Masked tokens are set to 0, so that not even a NaN in padding reaches a distance.
        x = torch.where(mask.unsqueeze(-1), _at_least_float32(tokens.detach()), 0.0)
        distance = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist") / dim**0.5  # (B, N, N)
        pair = mask.unsqueeze(1) & mask.unsqueeze(2)
        far = distance.masked_fill(~pair, float("inf"))
        nearest = far.square().topk(min(k, n), dim=2, largest=False).values  # (B, N, k), sorted: equal tokens sum alike
        finite = nearest.isfinite()
        mean = nearest.masked_fill(~finite, 0).sum(2) / finite.sum(2).clamp_min(1)
        # log ρ in place of ρ: the order is the same, and exp(−mean) is 0 for every token of far-apart features.
        density = (-mean).masked_fill(~mask, float("-inf"))  # (B, N)

        # "Denser" with ties broken by index is a strict order, so each sample has exactly one densest token.
        index = torch.arange(n, device=tokens.device)
        denser = density.unsqueeze(1) > density.unsqueeze(2)  # [b, i, j]: j is denser than i
        denser |= (density.unsqueeze(1) == density.unsqueeze(2)) & (index < index.unsqueeze(1))
        to_denser = far.masked_fill(~denser, float("inf")).amin(2)
        largest = distance.masked_fill(~pair, 0).amax((1, 2)).unsqueeze(1)
        delta = torch.where(to_denser.isinf(), largest, to_denser)

        # log ρδ, −∞ for repeats of a token (δ = 0) raised above what is masked.
        score = (density + delta.log()).clamp_min(torch.finfo(x.dtype).min).masked_fill(~mask, float("-inf"))
        take = min(n_clusters, n)
        order = score.sort(dim=1, descending=True, stable=True)
        centres = order.indices[:, :take].masked_fill(order.values[:, :take].isinf(), -1)
        if take < n_clusters:
            centres = torch.nn.functional.pad(centres, (0, n_clusters - take), value=-1)
        to_centre = far.gather(2, centres.clamp_min(0).unsqueeze(1).expand(-1, n, -1))  # (B, N, n_clusters)
        to_centre = to_centre.masked_fill((centres < 0).unsqueeze(1), float("inf"))
        assignment = to_centre.min(dim=2).indices.masked_fill(~mask, -1)
    return assignment, centres


def merge_tokens(tokens: Tensor, weight: Tensor, assignment: Tensor, n_clusters: int) -> Tensor:
    """Weighted mean of each cluster's tokens.

    Args:
        tokens: (B, N, d).
        weight: (B, N) ≥ 0, relative within a cluster.
        assignment: (B, N) cluster of each token, −1 = in none.
        n_clusters: Number of clusters.

    Returns:
        (B, n_clusters, d); 0 for a cluster without tokens or without weight.
    """
    batch, _, dim = tokens.shape
    there = assignment >= 0
    weight = torch.where(there, _at_least_float32(weight), 0.0)
    values = torch.where(there.unsqueeze(-1), _at_least_float32(tokens), 0.0) * weight.unsqueeze(-1)
    slot = torch.where(there, assignment, 0)
    total = weight.new_zeros(batch, n_clusters).scatter_add(1, slot, weight)
    merged = values.new_zeros(batch, n_clusters, dim).scatter_add(1, slot.unsqueeze(-1).expand(-1, -1, dim), values)
    return (merged / total.clamp_min(torch.finfo(total.dtype).tiny).unsqueeze(-1)).to(tokens.dtype)


def _at_least_float32(x: Tensor) -> Tensor:
    """Half precision is raised to single; double stays double."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
