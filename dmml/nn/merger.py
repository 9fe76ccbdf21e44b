"""Informative token aggregation: merge the tokens of a bag into K, deterministically and in linear time."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from dmml.functional.aggregation import DEFAULT_SCORE, PeakScore, dpc_knn, merge_finite, merge_tokens
from dmml.functional.padding import clear_padding, is_known_full
from dmml.nn.neighbourhood import curve_index_of, gather_rows, is_original, order_by_slide
from dmml.nn.never_compiled import never_compiled
from dmml.types import Bag

WINDOW = 32
"""Number of tokens of neighbouring tissue that are clustered together; exact clustering costs WINDOW² per window."""
MAX_POINTS = 64
"""Maximum number of points that are clustered in one piece; more points are first merged window by window."""
MAX_EXPORTED_TOKENS = 2**18
"""Maximum number of tokens that an exported network merges: its number of rounds is fixed, and suffices for so many"""


class _State(NamedTuple):
    """State between two rounds: the tokens of each patient, merged into M points."""

    points: Tensor
    """(B, M, d), real points first"""
    weight: Tensor
    """(B, M) number of tokens that each point represents"""
    mask: Tensor
    """(B, M) bool, True = real point"""
    point_of_token: Tensor
    """(B, N) int64 index of each token's point, −1 = none"""


# The numbers of rounds and chunks depend on the number of tokens: torch.compile would compile every length anew.
@never_compiled
def cluster_tissue(tokens: Tensor, bag: Bag, n_clusters: int, k: int = 5, score: PeakScore = DEFAULT_SCORE) -> Tensor:
    """Cluster tokens by exact DPC-kNN in windows of neighbours, until at most MAX_POINTS are left, and then into K.

    Args:
        tokens: (B, N, d).
        bag: Mask, positions and slides of the tokens.
        n_clusters: Number of clusters K ≤ MAX_POINTS / 2.
        k: Number of neighbours that determine the density.
        score: See `dpc_knn`.

    Returns:
        (B, N) int64, cluster of each token; −1 for masked tokens and for all but one of several copies. If a patient
        has fewer than K tokens, each token is a cluster.
    """
    with torch.no_grad():
        points, curve_index = tokens.detach().float(), curve_index_of(bag)
        is_clustered = bag.mask & is_original(points, curve_index)
        order = order_by_slide(curve_index, bag, is_clustered)
        # The last window is filled up with masked repeats of a token: to append zeros would copy all tokens.
        missing = -order.shape[1] % WINDOW if order.shape[1] > MAX_POINTS else 0
        points = gather_rows(clear_padding(points, bag.mask), pad(order, (0, missing)))
        mask = is_clustered.gather(1, order)
        point = torch.arange(tokens.shape[1], device=tokens.device).expand_as(order).masked_fill(~mask, -1)
        mask = pad(mask, (0, missing))
        state = _State(points, mask.float(), mask, point)
        # More than MAX_POINTS points fill at least two windows, which together keep at least K points.
        n_per_window = max(WINDOW // 8, -(-n_clusters // 2))
        if torch.compiler.is_exporting():
            # A graph has no loops: rounds after the last one that is needed change nothing.
            for _ in range(_rounds_for(MAX_EXPORTED_TOKENS, n_per_window)):
                state = _after_round(state, _merge_windows(state, n_per_window, k, score))
            points, weight, mask = (x[:, :MAX_POINTS] for x in state[:3])
            state = _State(points, weight, mask, state.point_of_token)
        while state.points.shape[1] > MAX_POINTS:
            state = _after_round(state, _merge_windows(state, n_per_window, k, score))
        assignment, _ = dpc_knn(state.points, state.mask, n_clusters, k, score)
        point = state.point_of_token
        cluster = assignment.gather(1, point.clamp_min(0)).masked_fill(point < 0, -1)
        return torch.full_like(cluster, -1).scatter(1, order, cluster)


def _rounds_for(n_tokens: int, n_per_window: int) -> int:
    """Return the number of rounds that leave at most MAX_POINTS of so many tokens."""
    rounds = 0
    while n_tokens > MAX_POINTS:
        n_tokens, rounds = -(-n_tokens // WINDOW) * n_per_window, rounds + 1
    return rounds


def _merge_windows(state: _State, n_clusters: int, k: int, score: PeakScore) -> _State:
    """Run one round: merge every WINDOW points into at most `n_clusters`, and move empty points to the end.

    Args:
        state: State before the round.
        n_clusters: Number of clusters per window.
        k: Number of neighbours that determine the density.
        score: See `dpc_knn`.
    """
    points, weight, mask, point_of_token = state
    batch, m, dim = points.shape
    windows = -(-m // WINDOW)
    missing = windows * WINDOW - m
    if missing:
        points, weight, mask = pad(points, (0, 0, 0, missing)), pad(weight, (0, missing)), pad(mask, (0, missing))
    points, weight, mask = (x.view(batch * windows, WINDOW, *x.shape[2:]) for x in (points, weight, mask))
    assignment = _cluster_in_chunks(points, mask, n_clusters, k, score)
    merged = merge_finite(points, weight, assignment, n_clusters).view(batch, windows * n_clusters, dim)
    total = weight.new_zeros(batch * windows, n_clusters).scatter_add(1, assignment.clamp_min(0), weight * mask)
    total = total.view(batch, -1)
    has_tokens = total > 0  # of two centres with equal features, one gets no tokens

    window = torch.arange(windows, device=points.device).repeat_interleave(WINDOW)
    slot = assignment.view(batch, -1).clamp_min(0) + window * n_clusters  # (B, windows · WINDOW)
    compact = (~has_tokens).long().argsort(dim=1, stable=True)
    rank = torch.empty_like(compact).scatter(
        1, compact, torch.arange(compact.shape[1], device=points.device).expand_as(compact)
    )
    new_point = rank.gather(1, slot)[:, :m]
    point_of_token = new_point.gather(1, point_of_token.clamp_min(0)).masked_fill(point_of_token < 0, -1)
    return _State(gather_rows(merged, compact), total.gather(1, compact), has_tokens.gather(1, compact), point_of_token)


def _cluster_in_chunks(
    points: Tensor, mask: Tensor, n_clusters: int, k: int, score: PeakScore, chunk: int = 64
) -> Tensor:
    """Apply `dpc_knn` to `chunk` windows at a time, so that memory does not grow with the tokens. → (W, M).

    An exported network clusters all windows at once, because the number of chunks depends on the number of tokens.
    """
    if torch.compiler.is_exporting():
        return dpc_knn(points, mask, n_clusters, k, score)[0]
    chunks = zip(points.split(chunk), mask.split(chunk), strict=True)
    return torch.cat([dpc_knn(some_points, some_mask, n_clusters, k, score)[0] for some_points, some_mask in chunks])


def _after_round(before: _State, merged: _State) -> _State:
    """Take the merged state of patients with more than MAX_POINTS points, and keep the state of the others.

    A patient with few enough points therefore depends neither on the other patients of the batch nor on padding.

    Args:
        before: State before the round.
        merged: State that `_merge_windows` made of it.
    """
    is_large = before.mask.sum(1) > MAX_POINTS  # (B,)
    width = _width_after(merged)
    points, weight, mask = (_resize(x, width) for x in merged[:3])
    if is_known_full(is_large):
        return _State(points, weight, mask, merged.point_of_token)
    # A patient with no more than MAX_POINTS points has them first.
    points_before, weight_before = (_resize(x[:, :MAX_POINTS], width) for x in before[:2])
    weight = torch.where(is_large[:, None], weight, weight_before)
    return _State(
        torch.where(is_large[:, None, None], points, points_before),
        weight,
        weight > 0,
        torch.where(is_large[:, None], merged.point_of_token, before.point_of_token),
    )


def _width_after(merged: _State) -> int:
    """Return the number of points, real or not, that the state after a round has room for.

    In an exported network it is a multiple of WINDOW that exceeds both MAX_POINTS and the merged points, whatever the
    number of tokens, so that no choice depends on that number.
    """
    n_merged = merged.points.shape[1]
    if torch.compiler.is_exporting():
        return ((n_merged + WINDOW - 1) // WINDOW) * WINDOW + MAX_POINTS
    return max(MAX_POINTS, n_merged)


def _resize(x: Tensor, width: int) -> Tensor:
    """Cut or zero-pad the second axis to a width, which exceeds it during an export. (B, M, …) → (B, width, …)."""
    if not torch.compiler.is_exporting():
        x = x[:, :width]
    return torch.cat([x, x.new_zeros(len(x), width - x.shape[1], *x.shape[2:])], 1)


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
        Merged tokens (B, K, d), each token's weight within its cluster (B, N), and the log weight of each cluster
        (B, K): the logsumexp of its scores, −∞ for an empty cluster.
    """
    has_cluster = assignment >= 0
    slot = assignment.clamp_min(0)
    score = score.float().masked_fill(~has_cluster, float("-inf"))
    top = (
        score.detach().new_full((len(score), n_clusters), float("-inf")).scatter_reduce(1, slot, score.detach(), "amax")
    )
    top = top.masked_fill(top.isinf(), 0)
    weight = (score - top.gather(1, slot)).exp()
    total = weight.new_zeros(len(score), n_clusters).scatter_add(1, slot, weight)
    tiny = torch.finfo(weight.dtype).tiny
    relative_weight = weight / total.gather(1, slot).clamp_min(tiny)
    log_weight = torch.where(total > 0, top + total.clamp_min(tiny).log(), float("-inf"))
    return merge_tokens(tokens, weight, assignment, n_clusters), relative_weight, log_weight
