"""Order of a bag's tokens along a curve, in which neighbouring tissue is close together, and copies of a token."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from dmml.types import Bag

_SORTED_LAST = torch.iinfo(torch.long).max
"""Sort key of tokens that must come last, such as padding."""


def neighbourhood_order(bag: Bag, cell_um: float = 14.0) -> Tensor:
    """Order in which a bag's tokens are cut into windows: slide by slide, along a Z-order curve, padding last.

    Args:
        bag: Positions (B, N, 2) in µm, mask and slides of the tokens.
        cell_um: Step of the curve's lattice in µm. It is far smaller than a tile (112 µm at 20x), so that no two tiles
            share a cell; windows are square if the side of a tile is a power of two steps.

    Returns:
        (B, N) int64 permutation. The result depends on the order of the given tokens only if tokens share a position.
    """
    return order_by_slide(curve_index_of(bag, cell_um), bag, bag.mask)


def curve_index_of(bag: Bag, cell_um: float = 14.0) -> Tensor:
    """Index of each token along a Z-order curve, regardless of its slide; padding comes last. → (B, N) int64."""
    lattice = (bag.position.nan_to_num() / cell_um).floor().long().clamp(0, 2**20 - 1)
    index = _spread_bits(lattice[..., 0]) | (_spread_bits(lattice[..., 1]) << 1)
    return index.masked_fill(~bag.mask, _SORTED_LAST)


def order_by_slide(curve_index: Tensor, bag: Bag, mask: Tensor) -> Tensor:
    """Order the tokens of a mask slide by slide along the curve, all others last. → (B, N) permutation."""
    return (curve_index + (bag.slide << 42)).masked_fill(~mask, _SORTED_LAST).argsort(dim=1, stable=True)


def originals_of(points: Tensor, curve_index: Tensor) -> Tensor:
    """Index of the one that is kept of several copies: tokens at one position whose features are equal up to rounding.

    Copies would be each other's nearest neighbours, and copying would determine densities, windows, clusters and
    weights. The features distinguish a slide that is given twice from two slides with tissue at the same position.

    Args:
        points: (B, N, d).
        curve_index: (B, N) index of each token along the curve.

    Returns:
        (B, N) int64, the lowest index of a token and its copies.
    """
    own_index = torch.arange(points.shape[1], device=points.device).expand_as(curve_index)
    if _is_known_to_differ(curve_index):
        return own_index
    # Features are compared by two projections: in a single one, some of thousands of tiles would agree by chance.
    angle = torch.arange(1, points.shape[-1] + 1, device=points.device, dtype=points.dtype)
    first, second, size = points @ angle.cos(), points @ angle.sin(), points.abs().amax(-1)
    # Sorted by position and then by features, copies are neighbours, however far apart they were in the bag.
    order = first.argsort(dim=1, stable=True)
    order = order.gather(1, curve_index.gather(1, order).argsort(dim=1, stable=True))
    index, first, second, size = (x.gather(1, order) for x in (curve_index, first, second, size))
    is_copy = _equal_neighbours(index)
    for projection in (first, second):
        is_copy &= projection.diff(dim=1).abs() <= 1e-4 * size[:, 1:]
    # Of copies that differ by rounding, the first in the bag is kept and not the first in order, which is a matter of
    # chance: copies may be on different slides, and so in different windows.
    run = (~pad(is_copy, (1, 0))).cumsum(1) - 1
    kept = torch.empty_like(order).scatter_reduce(1, run, order, "amin", include_self=False).gather(1, run)
    return torch.empty_like(order).scatter(1, order, kept)


def is_original(points: Tensor, curve_index: Tensor) -> Tensor:
    """Whether a token is the one that is kept of its copies (see `originals_of`); → (B, N) bool."""
    return originals_of(points, curve_index) == torch.arange(points.shape[1], device=points.device)


def _is_known_to_differ(curve_index: Tensor) -> bool:
    """Whether no two tokens of a patient share a position, as for most patients with one slide. Padding is ignored.

    False if that cannot be checked at no cost: on a GPU, and during compilation or export (see `is_known_full`).
    """
    if curve_index.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return not bool(_equal_neighbours(curve_index.sort(dim=1).values).any())


def _equal_neighbours(curve_index: Tensor) -> Tensor:
    """Whether a token has the position of the token before it, for sorted indices; False for padding. → (B, N − 1)."""
    return (curve_index[:, 1:] == curve_index[:, :-1]) & (curve_index[:, 1:] != _SORTED_LAST)


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


def label_copies(labels: Tensor, originals: Tensor, mask: Tensor) -> Tensor:
    """Give every copy of a token the label of the token that clustering kept of them.

    Args:
        labels: (B, N) label of each token.
        originals: (B, N) of `originals_of`, for the tokens as they were clustered.
        mask: (B, N) bool, True = real token.
    """
    return torch.where(mask, labels.gather(1, originals), labels)


def gather_rows(x: Tensor, index: Tensor) -> Tensor:
    """Gather whole rows by index. (B, M, d), (B, N) → (B, N, d)."""
    batch, m, dim = x.shape
    first = torch.arange(batch, device=x.device).unsqueeze(1) * m
    return x.reshape(-1, dim).index_select(0, (index + first).flatten()).view(batch, -1, dim)
