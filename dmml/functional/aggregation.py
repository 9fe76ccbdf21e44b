"""Informative token aggregation: density-peaks clustering, and merging each cluster into one token."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dmml.functional.padding import clear_padding, is_known_full
from dmml.functional.precision import at_least_float32


class PeakScore(NamedTuple):
    """How `dpc_knn` scores a token, as far as the paper's printed equations differ from its released code."""

    printed_density: bool = False
    """Eq. 10: ρ from distances ‖x_i − x_j‖ that are not divided by √d"""
    printed_separation: bool = False
    """Eq. 11: the score is ρδ² instead of ρδ, and δ of the densest token is its own largest distance"""


DEFAULT_SCORE = PeakScore()
"""The score as the released code computes it"""
PRINTED = PeakScore(printed_density=True, printed_separation=True)
"""The score as the paper prints it"""


def dpc_knn(
    tokens: Tensor, mask: Tensor, n_clusters: int, k: int = 5, score: PeakScore = DEFAULT_SCORE
) -> tuple[Tensor, Tensor]:
    """Cluster tokens by density peaks and k nearest neighbours (DPC-kNN), exactly and deterministically.

    With distances D_ij = ‖x_i − x_j‖ / √d, the density of a token is ρ_i = exp(−mean of its k smallest D², itself
    included), and δ_i is its distance to the nearest denser token; for the densest token, the largest D of the sample.
    The tokens with the highest ρδ become centres, in descending order; a centre's rank is its cluster's index. Every
    token joins its nearest centre. Ties go to the lower index.

    Args:
        tokens: (B, N, d).
        mask: (B, N) bool; masked tokens are ignored.
        n_clusters: Number of centres.
        k: Number of neighbours that define the density; all tokens are used if there are fewer than k.
        score: Whether density and separation are those that the paper prints.

    Returns:
        assignment (B, N) int64, −1 for masked tokens; centres (B, n_clusters) int64, −1 where a sample has fewer
        tokens than clusters. Memory grows as B · N², so call it on windows rather than on whole slides.

    Source: Du et al. 2016; with `PRINTED` eqs. 10–11 of the paper. Departs from the released code, which adds noise to
    the density and therefore clusters repeated tokens at random.
    """
    batch, n, _ = tokens.shape
    if n == 0:
        return mask.new_zeros((batch, 0), dtype=torch.long), mask.new_full((batch, n_clusters), -1, dtype=torch.long)
    with torch.no_grad():
        distance, largest = _squared_distances(tokens.detach(), mask)  # D²: (B, N, N), ∞ for masked tokens; (B, 1)
        mean = _nearest_mean(distance, k)
        if score.printed_density:
            mean = mean * tokens.shape[2]
        # log ρ instead of ρ: the order is the same, whereas exp(−mean) underflows to 0 where features lie far apart.
        density = (-mean).masked_fill(~mask, float("-inf"))  # (B, N)
        delta = _separation(distance, density, None if score.printed_separation else largest)  # δ²
        # log ρδ is −∞ for repeats of a token (δ = 0); the clamp ranks these above masked tokens.
        log_score = density + (delta.log() if score.printed_separation else delta.log() / 2)
        log_score = log_score.clamp_min(torch.finfo(distance.dtype).min).masked_fill(~mask, float("-inf"))
        n_centres = min(n_clusters, n)
        order = log_score.sort(dim=1, descending=True, stable=True)
        centres = order.indices[:, :n_centres].masked_fill(order.values[:, :n_centres].isinf(), -1)
        if n_centres < n_clusters:
            centres = torch.nn.functional.pad(centres, (0, n_clusters - n_centres), value=-1)
        to_centre = distance.gather(2, centres.clamp_min(0).unsqueeze(1).expand(-1, n, -1))  # (B, N, n_clusters)
        to_centre = to_centre.masked_fill((centres < 0).unsqueeze(1), float("inf"))
        assignment = to_centre.min(dim=2).indices.masked_fill(~mask, -1)
    return assignment, centres


def _nearest_mean(distance: Tensor, k: int) -> Tensor:
    """Return the mean of the k smallest finite distances of each token. (B, N, N) → (B, N)."""
    # The k smallest are sorted, so that equal tokens get equal sums.
    nearest = distance.topk(min(k, distance.shape[2]), dim=2, largest=False).values  # (B, N, k)
    finite = nearest.isfinite()
    return nearest.masked_fill(~finite, 0).sum(2) / finite.sum(2).clamp_min(1)


def _separation(distance: Tensor, density: Tensor, largest: Tensor | None) -> Tensor:
    """Return the distance of each token to the nearest denser one. → (B, N).

    Args:
        distance: (B, N, N), ∞ for masked tokens.
        density: (B, N), −∞ for masked tokens.
        largest: (B, 1) distance that the densest token gets; None = the largest of its own.
    """
    # Ranks, with ties broken by index, make "denser" a strict order: each sample has exactly one densest token.
    densest_first = density.argsort(dim=1, descending=True, stable=True)
    ranks = torch.arange(density.shape[1], device=density.device).expand_as(densest_first)
    rank = torch.empty_like(densest_first).scatter(1, densest_first, ranks)
    denser = rank.unsqueeze(1) < rank.unsqueeze(2)  # [b, i, j]: j is denser than i
    # 1 / denser − 1 is 0 for denser tokens and ∞ for others; selecting by a random condition would be slow.
    to_denser = torch.maximum(distance, denser.to(distance.dtype).reciprocal_().sub_(1)).amin(2)
    if largest is None:
        of_densest = distance.gather(1, densest_first[:, :1, None].expand(-1, -1, distance.shape[2]))  # (B, 1, N)
        largest = of_densest.masked_fill(of_densest.isinf(), 0).amax(2)
    return torch.where(to_denser.isinf(), largest, to_denser)


def _squared_distances(tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return ‖x_i − x_j‖² / d, ∞ for masked tokens, and each sample's maximum. (B, N, d) → (B, N, N), (B, 1).

    One product in double precision is as exact for float32 tokens as a loop over coordinates, and many times faster.
    Rounding to the precision of the tokens makes equal distances equal, wherever they are in the product.
    """
    precision, dim = torch.promote_types(tokens.dtype, torch.float32), tokens.shape[-1]
    x = clear_padding(tokens, mask).double()
    with torch.autocast(x.device.type, enabled=False):
        inner = x @ x.transpose(1, 2)
    length = inner.diagonal(dim1=1, dim2=2) / dim
    distance = (length.unsqueeze(1) + length.unsqueeze(2)).sub_(inner, alpha=2 / dim)
    rounding_error = 1e-13 * length.amax(1).view(-1, 1, 1)
    differ = distance > rounding_error  # False for NaN, so that NaN also becomes a distance of 0
    if is_known_full(mask):
        distance = distance.to(precision).masked_fill_(differ.logical_not_(), 0.0)
        return distance, distance.amax((1, 2)).unsqueeze(1)
    is_pair = mask.unsqueeze(1) & mask.unsqueeze(2)
    distance = distance.to(precision).masked_fill_(~(differ & is_pair), 0.0)
    return distance.masked_fill(~is_pair, float("inf")), distance.amax((1, 2)).unsqueeze(1)


def merge_tokens(tokens: Tensor, weight: Tensor, assignment: Tensor, n_clusters: int) -> Tensor:
    """Merge each cluster's tokens into their weighted mean.

    Args:
        tokens: (B, N, d).
        weight: (B, N) ≥ 0, relative within a cluster.
        assignment: (B, N) cluster of each token, −1 = no cluster.
        n_clusters: Number of clusters.

    Returns:
        (B, n_clusters, d); 0 for a cluster that has no tokens or no weight.
    """
    has_cluster = assignment >= 0
    return _merge(clear_padding(at_least_float32(tokens), has_cluster), weight, assignment, n_clusters).to(tokens.dtype)


def merge_finite(tokens: Tensor, weight: Tensor, assignment: Tensor, n_clusters: int) -> Tensor:
    """Merge as `merge_tokens` does, without copying the tokens; tokens without a cluster must be finite, too."""
    return _merge(at_least_float32(tokens), weight, assignment, n_clusters).to(tokens.dtype)


def _merge(tokens: Tensor, weight: Tensor, assignment: Tensor, n_clusters: int) -> Tensor:
    batch, n, _ = tokens.shape
    weight = torch.where(assignment >= 0, at_least_float32(weight), 0.0)
    # With a product with a (B, n_clusters, N) matrix, the backward pass is two more products instead of a scatter.
    slots = weight.new_zeros(batch, n_clusters, n)
    slots = slots.scatter(1, assignment.clamp_min(0).unsqueeze(1), weight.unsqueeze(1))
    with torch.autocast(tokens.device.type, enabled=False):
        merged = slots @ tokens.to(slots.dtype)
    return merged / slots.sum(2, keepdim=True).clamp_min(torch.finfo(slots.dtype).tiny)
