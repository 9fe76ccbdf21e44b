"""Informative token aggregation: density-peaks clustering and the merging of a cluster into one token."""

from __future__ import annotations

import torch
from torch import Tensor

from dmml.functional.padding import clear_padding, is_known_full


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
    batch, n, _ = tokens.shape
    if n == 0:
        return mask.new_zeros((batch, 0), dtype=torch.long), mask.new_full((batch, n_clusters), -1, dtype=torch.long)
    with torch.no_grad():
        far, largest = _squared_distances(tokens.detach(), mask)  # (B, N, N), ∞ where a token is masked; (B, 1)
        nearest = far.topk(min(k, n), dim=2, largest=False).values  # (B, N, k), sorted: equal tokens sum alike
        finite = nearest.isfinite()
        mean = nearest.masked_fill(~finite, 0).sum(2) / finite.sum(2).clamp_min(1)
        # log ρ in place of ρ: the order is the same, and exp(−mean) is 0 for every token of far-apart features.
        density = (-mean).masked_fill(~mask, float("-inf"))  # (B, N)

        # By rank, ties broken by index, "denser" is a strict order: each sample has exactly one densest token.
        densest_first = density.argsort(dim=1, descending=True, stable=True)
        place = torch.arange(n, device=tokens.device).expand_as(densest_first)
        rank = torch.empty_like(densest_first).scatter(1, densest_first, place)
        denser = rank.unsqueeze(1) < rank.unsqueeze(2)  # [b, i, j]: j is denser than i
        # ∞ where it is not, by arithmetic: a choice between two values is slow where it goes either way at random.
        to_denser = torch.maximum(far, denser.to(far.dtype).reciprocal_().sub_(1)).amin(2)
        delta = torch.where(to_denser.isinf(), largest, to_denser)  # δ²

        # log ρδ, −∞ for repeats of a token (δ = 0) raised above what is masked.
        score = (density + delta.log() / 2).clamp_min(torch.finfo(far.dtype).min).masked_fill(~mask, float("-inf"))
        take = min(n_clusters, n)
        order = score.sort(dim=1, descending=True, stable=True)
        centres = order.indices[:, :take].masked_fill(order.values[:, :take].isinf(), -1)
        if take < n_clusters:
            centres = torch.nn.functional.pad(centres, (0, n_clusters - take), value=-1)
        to_centre = far.gather(2, centres.clamp_min(0).unsqueeze(1).expand(-1, n, -1))  # (B, N, n_clusters)
        to_centre = to_centre.masked_fill((centres < 0).unsqueeze(1), float("inf"))
        assignment = to_centre.min(dim=2).indices.masked_fill(~mask, -1)
    return assignment, centres


def _squared_distances(tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """‖x_i − x_j‖² / d, ∞ where one is masked, and the largest of a sample. (B, N, d) → (B, N, N), (B, 1).

    By one product in double precision: as exact for single precision as the loop over coordinates, many times as fast.
    Rounded to the precision of the tokens, what is equal stays equal whatever place in the product it had.
    """
    precision, dim = torch.promote_types(tokens.dtype, torch.float32), tokens.shape[-1]
    x = clear_padding(tokens, mask).double()
    with torch.autocast(x.device.type, enabled=False):
        inner = x @ x.transpose(1, 2)
    length = inner.diagonal(dim1=1, dim2=2) / dim
    distance = (length.unsqueeze(1) + length.unsqueeze(2)).sub_(inner, alpha=2 / dim)
    nil = 1e-13 * length.amax(1).view(-1, 1, 1)
    some = distance > nil  # not `<= nil`: what is no number counts as no distance, too
    if is_known_full(mask):
        distance = distance.to(precision).masked_fill_(some.logical_not_(), 0.0)
        return distance, distance.amax((1, 2)).unsqueeze(1)
    pair = mask.unsqueeze(1) & mask.unsqueeze(2)
    distance = distance.to(precision).masked_fill_(~(some & pair), 0.0)
    return distance.masked_fill(~pair, float("inf")), distance.amax((1, 2)).unsqueeze(1)


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
    there = assignment >= 0
    return _merge(clear_padding(_at_least_float32(tokens), there), weight, assignment, n_clusters).to(tokens.dtype)


def merge_finite(tokens: Tensor, weight: Tensor, assignment: Tensor, n_clusters: int) -> Tensor:
    """As `merge_tokens`, without a copy of the tokens: those in no cluster must be finite, too."""
    return _merge(_at_least_float32(tokens), weight, assignment, n_clusters).to(tokens.dtype)


def _merge(tokens: Tensor, weight: Tensor, assignment: Tensor, n_clusters: int) -> Tensor:
    batch, n, _ = tokens.shape
    weight = torch.where(assignment >= 0, _at_least_float32(weight), 0.0)
    # As a product with a (B, n_clusters, N) matrix: the backward pass is two products more, instead of a scatter.
    slots = weight.new_zeros(batch, n_clusters, n)
    slots = slots.scatter(1, assignment.clamp_min(0).unsqueeze(1), weight.unsqueeze(1))
    with torch.autocast(tokens.device.type, enabled=False):
        merged = slots @ tokens.to(slots.dtype)
    return merged / slots.sum(2, keepdim=True).clamp_min(torch.finfo(slots.dtype).tiny)


def _at_least_float32(x: Tensor) -> Tensor:
    """Half precision is raised to single; double stays double."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
