"""Checks that a feature store holds what it promises, slide by slide."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dmml.store import FeatureStore, SlideFeatures

TOLERANCE_UM = 0.05
"""float32 at a few centimetres; imported tiles carry their own, since other tools round to pixels"""


def verify(store: FeatureStore) -> Iterator[tuple[str, list[str]]]:
    """Look through every slide.

    Shapes agree with each other and with the encoder, all numbers are finite, no two tiles share a place, and every
    fine tile lies inside its parent.

    Yields:
        (slide, what is wrong with it), slide by slide; an empty list is a sound slide.
    """
    for slide in store.slides():
        try:
            problems = _problems(store, slide)
        except Exception as error:  # a damaged array can fail in many ways, and each is a finding
            problems = [f"cannot be read ({' '.join(str(error).split()) or type(error).__name__})"]
        yield slide, problems


def _problems(store: FeatureStore, slide: str) -> list[str]:
    scales = store.attributes["magnifications"]
    tile_px = store.attributes["tile_px"]
    known = store.slide_attributes(slide)
    bags = {m: bag for m in sorted(scales) if (bag := store.read(slide, m)) is not None}
    problems = [] if any(len(bag.features) for bag in bags.values()) else ["has no tiles"]
    for magnification, bag in bags.items():
        problems += [f"{magnification}x: {problem}" for problem in _of_bag(bag, store.n_features)]
        if bag.parent is not None and not problems:
            coarse = bags.get(magnification // 2)
            side = known.get("tile_um", {}).get(str(magnification), scales[magnification] * tile_px)
            found = _of_parents(bag, coarse, side, known.get("nested_within_um", TOLERANCE_UM))
            problems += [f"{magnification}x: {problem}" for problem in found]
    thumbnail = store.thumbnail(slide)
    if thumbnail is not None and (thumbnail.ndim != 3 or thumbnail.shape[2] != 3 or thumbnail.dtype != np.uint8):
        problems.append(f"thumbnail is {thumbnail.shape} {thumbnail.dtype}, not (H, W, 3) uint8")
    return problems


def _of_bag(bag: SlideFeatures, width: int) -> list[str]:
    problems = []
    if bag.features.ndim != 2 or bag.features.shape[1] != width:
        problems.append(f"features are {bag.features.shape}, not (N, {width})")
    elif not np.isfinite(bag.features).all():
        rows = np.flatnonzero(~np.isfinite(bag.features).all(axis=1))
        problems.append(f"{len(rows)} tiles hold NaN or infinity, first row {rows[0]}")
    elif len(bag.features) and not np.any(bag.features, axis=1).all():
        problems.append(f"{int((~np.any(bag.features, axis=1)).sum())} tiles hold zeros only")
    n = len(bag.features)
    if bag.position.shape != (n, 2):
        problems.append(f"positions are {bag.position.shape}, not ({n}, 2)")
    elif not np.isfinite(bag.position).all():
        problems.append("positions hold NaN or infinity")
    elif len(np.unique(bag.position, axis=0)) != n:
        problems.append(f"{n - len(np.unique(bag.position, axis=0))} tiles lie where another lies")
    return problems


def _of_parents(bag: SlideFeatures, coarse: SlideFeatures | None, side: float, within: float) -> list[str]:
    """A tile of `side` µm lies inside its parent when its centre is half a side from the parent's on both axes."""
    n = len(bag.features)
    if bag.parent.shape != (n,):
        return [f"parents are {bag.parent.shape}, not ({n},)"]
    if coarse is None:
        return [] if (bag.parent == -1).all() else ["has parents, but the coarser magnification is missing"]
    outside = np.flatnonzero((bag.parent < -1) | (bag.parent >= len(coarse.features)))
    if len(outside):
        return [f"parent {bag.parent[outside[0]]} of row {outside[0]} does not exist ({len(coarse.features)} there)"]
    rows = np.flatnonzero(bag.parent >= 0)
    offset = np.abs(bag.position[rows] - coarse.position[bag.parent[rows]])
    wrong = rows[(np.abs(offset - side / 2) > within).any(axis=1)]
    return [f"{len(wrong)} tiles lie outside their parent, first row {wrong[0]}"] if len(wrong) else []
