"""The deletion test of a map: how the model's output changes as tiles are removed in the map's order.

With the output f_k after the first k steps of removal, the area over the perturbation curve is the mean of f_0 − f_k over
the steps k ≥ 1 (AOPC, Samek et al. 2017, eq. 12, without the term of k = 0, which is 0). If a map is signed, the tiles that
it calls most supporting are removed first, and a faithful map makes the output fall. Attention has no sign: it may claim
that its tiles matter, but not which way. So its area is the mean of |f_0 − f_k|. Larger is better for both.

Random orders of the same tiles show what removing any tiles does. A map is better than random if its area exceeds the
areas of nearly all of them: p = (1 + number of random orders with at least its area) / (1 + number of random orders).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dmml.evaluation import interval_settings

MIN_TILES = 5
"""With fewer tiles, too few orders differ for a test"""
Scores = Callable[[NDArray[np.int64]], Mapping[str, NDArray[np.float64]]]
"""Maps (V, K) indices of the tiles that V bags keep to {name of an output: (V,)}"""


@dataclass(frozen=True)
class Curves:
    """Outputs of the model as tiles are removed in V orders.

    Attributes:
        shares: (S + 1,) share of the tiles that are removed, from 0.
        values: {name of an output: (V, S + 1)}.
    """

    shares: NDArray[np.float64]
    values: dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Deletion:
    """Result of the deletion test of one map.

    Attributes:
        is_signed: Whether the area counts a fall of the output, or any change of it.
        area: Area over the map's curve.
        random: (R,) areas of random orders.
        attention: Area of the order by attention; None if there is none.
        shares: (S + 1,) share of the tiles that are removed.
        curve: (S + 1,) output in the map's order.
        random_band: (3, S + 1) mean, and lower and upper end of the interval, of the random orders.
    """

    is_signed: bool
    area: float
    random: NDArray[np.float64]
    attention: float | None
    shares: NDArray[np.float64]
    curve: NDArray[np.float64]
    random_band: NDArray[np.float64]

    @property
    def p(self) -> float:
        """One-sided p of the hypothesis that the map's order is a random one."""
        return float((1 + (self.random >= self.area).sum()) / (1 + len(self.random)))

    @property
    def is_better_than_random(self) -> bool:
        """Whether the map's area exceeds those of random orders, at the level of all intervals."""
        return self.p <= interval_settings.alpha()

    @property
    def random_interval(self) -> tuple[float, float]:
        """Interval that contains the areas of most random orders."""
        low, high = _interval(self.random[:, None])
        return float(low[0]), float(high[0])


def removal_counts(n_tiles: int, shares: Sequence[float]) -> NDArray[np.int64]:
    """Return the numbers of removed tiles, (S + 1,) from 0: at least one in the first step, and never all."""
    counts = np.rint(n_tiles * np.asarray(shares)).astype(np.int64).clip(1, n_tiles - 1)
    return np.unique([0, *counts])


def random_orders(n_tiles: int, n_orders: int, seed: int = 0) -> NDArray[np.int64]:
    """Draw (R, N) random orders."""
    generator = np.random.default_rng(seed)
    return np.stack([generator.permutation(n_tiles) for _ in range(n_orders)])


def order_of(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the (N,) order in which tiles are removed, the highest value first; ties keep the order of the tiles."""
    return np.argsort(-values, kind="stable")


def deletion_curves(scores: Scores, orders: NDArray[np.int64], shares: Sequence[float]) -> Curves:
    """Remove tiles in several orders, and run the model after every step.

    Args:
        scores: The model.
        orders: (V, N) each a permutation of the N tiles.
        shares: Shares of the tiles that are removed, ascending.
    """
    n_tiles = orders.shape[1]
    counts = removal_counts(n_tiles, shares)
    whole = scores(np.arange(n_tiles)[None])
    columns = {name: [np.repeat(value, len(orders))] for name, value in whole.items()}
    for count in counts[1:]:
        kept = np.sort(orders[:, count:], axis=1)  # in the order of the bag, so that each set of tiles has one result
        for name, value in scores(kept).items():
            columns[name].append(value)
    return Curves(counts / n_tiles, {name: np.stack(each, axis=1) for name, each in columns.items()})


def areas(curves: NDArray[np.float64], is_signed: bool) -> NDArray[np.float64]:
    """Return the areas (V,) over curves (V, S + 1); see this module."""
    change = curves[:, :1] - curves[:, 1:]
    return (change if is_signed else np.abs(change)).mean(axis=1)


def deletion(
    shares: NDArray[np.float64],
    curve: NDArray[np.float64],
    random: NDArray[np.float64],
    attention: NDArray[np.float64] | None = None,
    is_signed: bool = True,
) -> Deletion:
    """Compare a map's curve with those of random orders.

    Args:
        shares: (S + 1,) share of the tiles that are removed.
        curve: (S + 1,) output in the map's order.
        random: (R, S + 1) output in random orders.
        attention: (S + 1,) output in the order of attention.
        is_signed: Whether the map has a sign; see this module.
    """
    return Deletion(
        is_signed=is_signed,
        area=float(areas(curve[None], is_signed)[0]),
        random=areas(random, is_signed),
        attention=None if attention is None else float(areas(attention[None], is_signed)[0]),
        shares=shares,
        curve=curve,
        random_band=np.stack([random.mean(axis=0), *_interval(random)]),
    )


def _interval(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ends (2, …) of the interval that contains most of (R, …) values."""
    tail = interval_settings.alpha() / 2
    return np.quantile(values, [tail, 1 - tail], axis=0)
