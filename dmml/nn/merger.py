"""Informative token aggregation: merge the tokens of a bag into K, deterministically and in linear time."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from dmml.functional.aggregation import dpc_knn, merge_finite, merge_tokens
from dmml.functional.padding import clear_padding, is_known_full
from dmml.types import Bag

WINDOW = 32
"""Number of tokens of neighbouring tissue that are clustered together; exact clustering costs WINDOW² per window."""
LAST = 64
"""Largest number of points that are clustered at once, without windows."""

_LAST_PLACE = torch.iinfo(torch.long).max
"""Sort key of tokens that must come last, such as padding."""

_Round = tuple[Tensor, Tensor, Tensor, Tensor]
"""State between rounds: points (B, M, d), the number of tokens that each point represents (B, M), the mask of real
points (B, M), and the point of each token (B, N), −1 = none."""


def neighbourhood_order(bag: Bag, cell_um: float = 14.0) -> Tensor:
    """Order in which a bag's tokens are cut into windows: slide by slide, along a Z-order curve, padding last.

    Args:
        bag: Positions (B, N, 2) in µm, mask and slides of the tokens.
        cell_um: Step of the curve's lattice in µm. It is far smaller than a tile (112 µm at 20x), so that no two tiles
            share a cell; windows are square if the side of a tile is a power of two steps.

    Returns:
        (B, N) int64 permutation. The result depends on the order of the given tokens only if tokens share a position.
    """
    return _by_slide(_place_code(bag, cell_um), bag, bag.mask)


def _place_code(bag: Bag, cell_um: float = 14.0) -> Tensor:
    """Index of each token along a Z-order curve, regardless of its slide; padding comes last. → (B, N) int64."""
    lattice = (bag.position.nan_to_num() / cell_um).floor().long().clamp(0, 2**20 - 1)
    code = _spread_bits(lattice[..., 0]) | (_spread_bits(lattice[..., 1]) << 1)
    return code.masked_fill(~bag.mask, _LAST_PLACE)


def _by_slide(code: Tensor, bag: Bag, mask: Tensor) -> Tensor:
    """Order the tokens of a mask slide by slide along the curve, all others last. → (B, N) permutation."""
    return (code + (bag.slide << 42)).masked_fill(~mask, _LAST_PLACE).argsort(dim=1, stable=True)


def _originals(points: Tensor, code: Tensor) -> Tensor:
    """Mask that keeps one of several copies: tokens at one position whose features are equal up to rounding.

    Copies would be each other's nearest neighbours, and copying would determine densities, windows, clusters and
    weights. The features distinguish a slide that is given twice from two slides with tissue at the same position.

    Args:
        points: (B, N, d).
        code: (B, N) index of each token along the curve.

    Returns:
        (B, N) bool; exactly one of several copies is True, and so is padding.
    """
    if points.device.type == "cpu" and _all_places_differ(code):
        return torch.ones_like(code, dtype=torch.bool)
    # Features are compared by two projections: in a single one, some of thousands of tiles would agree by chance.
    angle = torch.arange(1, points.shape[-1] + 1, device=points.device, dtype=points.dtype)
    mark, other, size = points @ angle.cos(), points @ angle.sin(), points.abs().amax(-1)
    # Sorted by position and then by features, copies are neighbours, however far apart they were in the bag.
    order = mark.argsort(dim=1, stable=True)
    order = order.gather(1, code.gather(1, order).argsort(dim=1, stable=True))
    place, mark, other, size = (x.gather(1, order) for x in (code, mark, other, size))
    same = (place[:, 1:] == place[:, :-1]) & (place[:, 1:] != _LAST_PLACE)
    for value in (mark, other):
        same &= value.diff(dim=1).abs() <= 1e-4 * size[:, 1:]
    return torch.ones_like(code, dtype=torch.bool).scatter(1, order[:, 1:], ~same)


def _all_places_differ(code: Tensor) -> bool:
    """Whether no two tokens of a patient share a position, as for most patients with one slide. Padding is ignored."""
    place = code.sort(dim=1).values
    return not bool(((place[:, 1:] == place[:, :-1]) & (place[:, 1:] != _LAST_PLACE)).any())


def _spread_bits(x: Tensor) -> Tensor:
    """Move the bits of numbers below 2**20 to the even bit positions, by halving the blocks that move together."""
    for shift, keep in (
        (16, 0x0000FFFF0000FFFF),
        (8, 0x00FF00FF00FF00FF),
        (4, 0x0F0F0F0F0F0F0F0F),
        (2, 0x3333333333333333),
        (1, 0x5555555555555555),
    ):
        x = (x | (x << shift)) & keep
    return x


# The numbers of rounds and chunks depend on the number of tokens: torch.compile would compile every length anew.
@torch.compiler.disable
def cluster_tissue(tokens: Tensor, bag: Bag, n_clusters: int, k: int = 5) -> Tensor:
    """Cluster tokens by exact DPC-kNN in windows of neighbours, until at most LAST points are left, and then into K.

    Args:
        tokens: (B, N, d).
        bag: Mask, positions and slides of the tokens.
        n_clusters: Number of clusters K ≤ LAST / 2.
        k: Number of neighbours that determine the density.

    Returns:
        (B, N) int64, cluster of each token; −1 for masked tokens and for all but one of several copies. If a patient
        has fewer than K tokens, each token is a cluster.
    """
    with torch.no_grad():
        points, code = tokens.detach().float(), _place_code(bag)
        once = bag.mask & _originals(points, code)
        order = _by_slide(code, bag, once)
        # The last window is filled up with masked repeats of a token: to append zeros would copy all tokens.
        spare = -order.shape[1] % WINDOW if order.shape[1] > LAST else 0
        points = _take(clear_padding(points, bag.mask), pad(order, (0, spare)))
        mask = once.gather(1, order)
        member = torch.arange(tokens.shape[1], device=tokens.device).expand_as(order).masked_fill(~mask, -1)
        mask = pad(mask, (0, spare))
        weight = mask.float()
        # More than LAST points fill at least two windows, which together keep at least K points.
        kept = max(WINDOW // 8, -(-n_clusters // 2))
        while points.shape[1] > LAST:
            merged = _merge_windows(points, weight, mask, member, kept, k)
            # A patient with few enough points keeps its state: neither batch mates nor padding change the result.
            points, weight, mask, member = _where_large(mask, merged, (points, weight, mask, member))
        assignment, _ = dpc_knn(points, mask, n_clusters, k)
        last = assignment.gather(1, member.clamp_min(0)).masked_fill(member < 0, -1)
        return torch.full_like(last, -1).scatter(1, order, last)


def _merge_windows(
    points: Tensor, weight: Tensor, mask: Tensor, member: Tensor, n_clusters: int, k: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run one round: merge every WINDOW points into at most `n_clusters`, and move empty points to the end.

    Args:
        points: (B, M, d), real ones first.
        weight: (B, M) number of tokens that each point represents.
        mask: (B, M) bool, True = real point.
        member: (B, N) point of each token, −1 = none.
        n_clusters: Number of clusters per window.
        k: Number of neighbours that determine the density.

    Returns:
        Points, weight, mask and member after the round.
    """
    batch, m, dim = points.shape
    windows = -(-m // WINDOW)
    spare = windows * WINDOW - m
    if spare:
        points, weight, mask = pad(points, (0, 0, 0, spare)), pad(weight, (0, spare)), pad(mask, (0, spare))
    points, weight, mask = (x.view(batch * windows, WINDOW, *x.shape[2:]) for x in (points, weight, mask))
    assignment = _in_chunks(points, mask, n_clusters, k)
    merged = merge_finite(points, weight, assignment, n_clusters).view(batch, windows * n_clusters, dim)
    total = weight.new_zeros(batch * windows, n_clusters).scatter_add(1, assignment.clamp_min(0), weight * mask)
    total = total.view(batch, -1)
    there = total > 0  # of two centres with equal features, one gets no tokens

    window = torch.arange(windows, device=points.device).repeat_interleave(WINDOW)
    slot = assignment.view(batch, -1).clamp_min(0) + window * n_clusters  # (B, windows · WINDOW)
    compact = (~there).long().argsort(dim=1, stable=True)
    rank = torch.empty_like(compact).scatter(
        1, compact, torch.arange(compact.shape[1], device=points.device).expand_as(compact)
    )
    moved = rank.gather(1, slot)[:, :m]
    member = moved.gather(1, member.clamp_min(0)).masked_fill(member < 0, -1)
    return _take(merged, compact), total.gather(1, compact), there.gather(1, compact), member


def _in_chunks(points: Tensor, mask: Tensor, n_clusters: int, k: int, at_once: int = 64) -> Tensor:
    """Apply `dpc_knn` to `at_once` windows at a time, so that memory does not grow with the tokens. → (W, M)."""
    parts = zip(points.split(at_once), mask.split(at_once), strict=True)
    return torch.cat([dpc_knn(some, there, n_clusters, k)[0] for some, there in parts])


def _take(x: Tensor, index: Tensor) -> Tensor:
    """Gather whole rows by index. (B, M, d), (B, N) → (B, N, d)."""
    batch, m, dim = x.shape
    first = torch.arange(batch, device=x.device).unsqueeze(1) * m
    return x.reshape(-1, dim).index_select(0, (index + first).flatten()).view(batch, -1, dim)


def _where_large(mask: Tensor, merged: _Round, before: _Round) -> _Round:
    """Choose the state after a round for patients with more than LAST points, and the state before it for the others.

    Args:
        mask: (B, M) points before the round, real ones first.
        merged: State that `_merge_windows` returned.
        before: State that was passed to it.
    """
    large = mask.sum(1) > LAST  # (B,)
    width = max(LAST, merged[0].shape[1])
    if is_known_full(large):
        return *(_resize(new, width) for new in merged[:3]), merged[3]
    points, weight, there = (
        torch.where(large.view(-1, *[1] * (new.dim() - 1)), _resize(new, width), _resize(old, width))
        for new, old in zip(merged[:3], before[:3], strict=True)
    )
    return points, weight, there, torch.where(large.unsqueeze(1), merged[3], before[3])


def _resize(x: Tensor, width: int) -> Tensor:
    """Cut or zero-pad the second axis to a width. (B, M, …) → (B, width, …)."""
    return torch.cat([x[:, :width], x.new_zeros(len(x), max(0, width - x.shape[1]), *x.shape[2:])], 1)


def merge_informative(
    tokens: Tensor, score: Tensor, assignment: Tensor, n_clusters: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Merge the tokens of each cluster, weighted by softmax(score) within the cluster.

    Departs from the released code, whose weights exp(score) overflow.

    Args:
        tokens: (B, N, d).
        score: (B, N), how informative a token is to the subspace.
        assignment: (B, N) cluster of each token, −1 = none.
        n_clusters: Number of clusters K.

    Returns:
        Merged tokens (B, K, d), each token's share of its cluster (B, N), and the log weight of each cluster (B, K):
        the logsumexp of its scores, −∞ for an empty cluster.
    """
    there = assignment >= 0
    slot = assignment.clamp_min(0)
    score = score.float().masked_fill(~there, float("-inf"))
    top = (
        score.detach().new_full((len(score), n_clusters), float("-inf")).scatter_reduce(1, slot, score.detach(), "amax")
    )
    top = top.masked_fill(top.isinf(), 0)
    weight = (score - top.gather(1, slot)).exp()
    total = weight.new_zeros(len(score), n_clusters).scatter_add(1, slot, weight)
    tiny = torch.finfo(weight.dtype).tiny
    share = weight / total.gather(1, slot).clamp_min(tiny)
    standing = torch.where(total > 0, top + total.clamp_min(tiny).log(), float("-inf"))
    return merge_tokens(tokens, weight, assignment, n_clusters), share, standing
