"""Informative token aggregation: many tokens of a slide → K merged tokens, linear in tokens and deterministic."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from dmml.functional.aggregation import dpc_knn, merge_finite, merge_tokens
from dmml.functional.padding import clear_padding, is_known_full
from dmml.types import Bag

WINDOW = 32
"""Tokens of neighbouring tissue that are clustered together; the exact clustering costs WINDOW² a window."""
LAST = 64
"""Points that need no windows any more: they are clustered at once."""

_LAST_PLACE = torch.iinfo(torch.long).max
"""Code of what has no place: padding."""

_Round = tuple[Tensor, Tensor, Tensor, Tensor]
"""State between rounds: points (B, M, d), tokens that each stands for (B, M), which are real (B, M), and the point of
each token (B, N), −1 = none."""


def neighbourhood_order(bag: Bag, cell_um: float = 14.0) -> Tensor:
    """Order in which a bag's tokens are cut into windows: slide by slide, along a Z-order curve, padding last.

    Args:
        bag: positions (B, N, 2) µm, mask, slide.
        cell_um: Step of the curve's lattice in µm, far below a tile (112 µm at 20x), so that no two tiles share a cell;
            a power of two of them to a tile keeps windows square.

    Returns:
        (B, N) int64 permutation; it does not depend on the order of the tokens given, but for tokens at one place.
    """
    return _by_slide(_place_code(bag, cell_um), bag, bag.mask)


def _place_code(bag: Bag, cell_um: float = 14.0) -> Tensor:
    """Place along a Z-order curve, whatever the slide; padding last. → (B, N) int64."""
    lattice = (bag.position.nan_to_num() / cell_um).floor().long().clamp(0, 2**20 - 1)
    code = _spread_bits(lattice[..., 0]) | (_spread_bits(lattice[..., 1]) << 1)
    return code.masked_fill(~bag.mask, _LAST_PLACE)


def _by_slide(code: Tensor, bag: Bag, mask: Tensor) -> Tensor:
    """Tokens of a mask slide by slide along the curve, the others last. → (B, N) permutation."""
    return (code + (bag.slide << 42)).masked_fill(~mask, _LAST_PLACE).argsort(dim=1, stable=True)


def _originals(points: Tensor, code: Tensor) -> Tensor:
    """Tokens that repeat no other: a copy has the place and, to rounding, the features of another.

    Copies would be each other's nearest neighbours, so that densities, windows, clusters and weights would be those of
    the copying. A slide that is given twice, and each of two slides' tissue at one place, are told apart by features.

    Args:
        points: (B, N, d).
        code: (B, N) place of each token.

    Returns:
        (B, N) bool; of several copies one is True, and so is padding.
    """
    if points.device.type == "cpu" and _all_places_differ(code):
        return torch.ones_like(code, dtype=torch.bool)
    # Two numbers tell features apart at one place: in one alone, of thousands of tiles a pair would agree by chance.
    angle = torch.arange(1, points.shape[-1] + 1, device=points.device, dtype=points.dtype)
    mark, other, size = points @ angle.cos(), points @ angle.sin(), points.abs().amax(-1)
    # By place and, within a place, by features: whatever lies between copies in the bag, they are neighbours now.
    order = mark.argsort(dim=1, stable=True)
    order = order.gather(1, code.gather(1, order).argsort(dim=1, stable=True))
    place, mark, other, size = (x.gather(1, order) for x in (code, mark, other, size))
    same = (place[:, 1:] == place[:, :-1]) & (place[:, 1:] != _LAST_PLACE)
    for value in (mark, other):
        same &= value.diff(dim=1).abs() <= 1e-4 * size[:, 1:]
    return torch.ones_like(code, dtype=torch.bool).scatter(1, order[:, 1:], ~same)


def _all_places_differ(code: Tensor) -> bool:
    """Whether no two tokens of a patient are at one place, as in most patients of one slide. Padding is at none."""
    place = code.sort(dim=1).values
    return not bool(((place[:, 1:] == place[:, :-1]) & (place[:, 1:] != _LAST_PLACE)).any())


def _spread_bits(x: Tensor) -> Tensor:
    """Bits of numbers below 2**20 moved to the even places, by halving the blocks that move together."""
    for shift, keep in (
        (16, 0x0000FFFF0000FFFF),
        (8, 0x00FF00FF00FF00FF),
        (4, 0x0F0F0F0F0F0F0F0F),
        (2, 0x3333333333333333),
        (1, 0x5555555555555555),
    ):
        x = (x | (x << shift)) & keep
    return x


# Its rounds and their chunks are as many as the tokens want: compiled, every length would be a program of its own.
@torch.compiler.disable
def cluster_tissue(tokens: Tensor, bag: Bag, n_clusters: int, k: int = 5) -> Tensor:
    """Windowed exact DPC-kNN: windows of neighbouring tokens are merged until at most LAST are left, then those into K.

    Args:
        tokens: (B, N, d).
        bag: mask, positions, slides.
        n_clusters: K ≤ LAST / 2.
        k: Neighbours for the density.

    Returns:
        (B, N) int64, cluster of each token, −1 for masked tokens and for all but one of several copies. Patients with
        fewer than K tokens get one each.
    """
    with torch.no_grad():
        points, code = tokens.detach().float(), _place_code(bag)
        once = bag.mask & _originals(points, code)
        order = _by_slide(code, bag, once)
        # Windows are filled up by any token, which is masked: a copy of all tokens with zeros behind them costs more.
        spare = -order.shape[1] % WINDOW if order.shape[1] > LAST else 0
        points = _take(clear_padding(points, bag.mask), pad(order, (0, spare)))
        mask = once.gather(1, order)
        member = torch.arange(tokens.shape[1], device=tokens.device).expand_as(order).masked_fill(~mask, -1)
        mask = pad(mask, (0, spare))
        weight = mask.float()
        # More than LAST points fill two windows at least: together they leave enough for K.
        kept = max(WINDOW // 8, -(-n_clusters // 2))
        while points.shape[1] > LAST:
            merged = _merge_windows(points, weight, mask, member, kept, k)
            # A patient who has few enough waits for the others: batch mates and padding change nothing.
            points, weight, mask, member = _where_large(mask, merged, (points, weight, mask, member))
        assignment, _ = dpc_knn(points, mask, n_clusters, k)
        last = assignment.gather(1, member.clamp_min(0)).masked_fill(member < 0, -1)
        return torch.full_like(last, -1).scatter(1, order, last)


def _merge_windows(
    points: Tensor, weight: Tensor, mask: Tensor, member: Tensor, n_clusters: int, k: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One round: every window of WINDOW points becomes at most `n_clusters` points, the empty ones moved to the end.

    Args:
        points: (B, M, d), real ones first.
        weight: (B, M) tokens that a point stands for.
        mask: (B, M).
        member: (B, N) point of each token, −1 = none.
        n_clusters: Clusters a window.
        k: Neighbours for the density.

    Returns:
        The same four after the round.
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
    there = total > 0  # of two centres with equal features one stays without tokens

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
    """`dpc_knn` of many windows, so many at once that its distances stay small: memory is flat in tokens. → (W, M)."""
    parts = zip(points.split(at_once), mask.split(at_once), strict=True)
    return torch.cat([dpc_knn(some, there, n_clusters, k)[0] for some, there in parts])


def _take(x: Tensor, index: Tensor) -> Tensor:
    """Rows by index, whole rows at a time: (B, M, d), (B, N) → (B, N, d)."""
    batch, m, dim = x.shape
    first = torch.arange(batch, device=x.device).unsqueeze(1) * m
    return x.reshape(-1, dim).index_select(0, (index + first).flatten()).view(batch, -1, dim)


def _where_large(mask: Tensor, merged: _Round, before: _Round) -> _Round:
    """The state after a round for patients with more than LAST points, the state before it for the others.

    Args:
        mask: (B, M) points before the round, real ones first.
        merged: What `_merge_windows` returned.
        before: What it was given.
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
    """Cut, or padded with zeros, to a width. (B, M, …) → (B, width, …)."""
    return torch.cat([x[:, :width], x.new_zeros(len(x), max(0, width - x.shape[1]), *x.shape[2:])], 1)


def merge_informative(
    tokens: Tensor, score: Tensor, assignment: Tensor, n_clusters: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Merge each cluster with weights softmax(score) within the cluster.

    Args:
        tokens: (B, N, d).
        score: (B, N), how informative a token is to the subspace.
        assignment: (B, N), −1 = none.
        n_clusters: K.

    Returns:
        Merged tokens (B, K, d), each token's share of its cluster (B, N), and what a cluster stands for: the logsumexp
        of its scores (B, K), −∞ for an empty one. Departs from the released code's exp(score), which overflows.
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
