"""What is kept of one slide to compare it with training slides."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dmml.evaluation.statistics.stain import stain_of

if TYPE_CHECKING:
    from dmml.store import SlideFeatures

MAX_TILES = 2_000
"""Maximum number of tiles per magnification; mean and variance over more of them hardly differ"""


@dataclass(frozen=True)
class SlideSummary:
    """One slide.

    Attributes:
        mean: {magnification: (D,) mean of the tiles' features}, without the magnifications that have no tiles.
        variance: {magnification: (D,) variance of the tiles' features around the mean}.
        tiles: {magnification: number of tiles}, 0 included.
        stain: (6,) stain of the thumbnail, see `dmml.evaluation.statistics.stain`; None if it cannot be computed.
        mpp: µm per pixel of the scan; None if unknown.
        mpp_is_stated: Whether the slide's file states it; otherwise it was given by hand.
    """

    mean: dict[int, NDArray[np.float64]]
    variance: dict[int, NDArray[np.float64]]
    tiles: dict[int, int]
    stain: NDArray[np.float64] | None = None
    mpp: float | None = None
    mpp_is_stated: bool = True


def summarise_slide(
    bags: Mapping[int, SlideFeatures | None],
    thumbnail: NDArray[np.uint8] | None,
    attributes: Mapping[str, Any],
    by_hand: Collection[str] = (),
) -> SlideSummary:
    """Summarise a slide.

    Args:
        bags: {magnification: features}; None or empty for a magnification without tiles.
        thumbnail: (H, W, 3) or None.
        attributes: Attributes of the slide, as a feature store holds them.
        by_hand: Values of the attribute `mpp_source` for a scale that was given by hand.
    """
    moments = {m: _moments(bag.features) for m, bag in bags.items() if bag is not None and len(bag.features)}
    return SlideSummary(
        mean={m: mean for m, (mean, _) in moments.items()},
        variance={m: variance for m, (_, variance) in moments.items()},
        tiles={m: 0 if bag is None else len(bag.features) for m, bag in bags.items()},
        stain=None if thumbnail is None else stain_of(thumbnail),
        mpp=float(attributes["mpp"]) if attributes.get("mpp") else None,
        mpp_is_stated=attributes.get("mpp_source") not in by_hand,
    )


def _moments(features: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and variance (D,) over at most `MAX_TILES` evenly spaced tiles."""
    step = np.linspace(0, len(features) - 1, min(len(features), MAX_TILES)).astype(np.int64)
    tiles = np.asarray(features[step], np.float64)
    return tiles.mean(0), tiles.var(0)
