"""Checks a feature store slide by slide: its arrays, its values and the positions of its tiles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dmml.errors import InputError, reason_of
from dmml.slides.tiling.tile_geometry import (
    are_apart,
    neighbour_distances,
    overlap_is_systematic,
    overlapping,
    scale_problems,
    usual_distance,
)
from dmml.store import FeatureStore, SlideFeatures
from dmml.store.checks import bag_problems, parent_problems, zero_rows
from dmml.store.feature_reader import recorded_tiles

TOLERANCE_UM = 0.05
"""float32 precision at a few centimetres; imported tiles have their own tolerance, since other tools round to pixels"""


@dataclass
class SlideCheck:
    """The findings about one slide of a store."""

    slide: str
    problems: list[str] = field(default_factory=list)
    """What is wrong with its arrays: a run on them fails or gives NaN"""
    unlikely: list[str] = field(default_factory=list)
    """Values that are readable but implausible: tiles of zeros, tiles at the same position"""
    misplaced: list[str] = field(default_factory=list)
    """What is impossible about the positions of its tiles: they overlap, or their scale is impossible"""
    doubts: list[str] = field(default_factory=list)
    """What may be intended, but should be checked"""

    @property
    def wrong(self) -> list[str]:
        """All reasons why the slide does not pass."""
        return [*self.problems, *self.unlikely, *self.misplaced]


def verify(store: FeatureStore, names: Iterable[str]) -> Iterator[SlideCheck]:
    """Check slides one by one, including all of their values; memory does not grow with their number.

    Args:
        store: The store.
        names: Names of slides; those that are incomplete are skipped.
    """
    for name in names:
        if _is_present(store, name):
            yield check_slide(store, name)
        store.forget(name)


def _is_present(store: FeatureStore, name: str) -> bool:
    """Whether there is a slide to check: a complete one, or one whose description is damaged."""
    try:
        return name in store
    except InputError:
        return True


def check_slide(store: FeatureStore, slide: str) -> SlideCheck:
    """Check one slide.

    Shapes agree with each other and with the encoder, all numbers are finite, no magnification is undeclared, no two
    tiles share a position or overlap, every fine tile lies inside its parent, and the scale is one that a scanner has.
    Vectors have no position, and may lack values.
    """
    check = SlideCheck(slide)
    try:
        _check_arrays(check, store)
    except Exception as error:  # a damaged array can fail in many ways, and each is a finding
        check.problems.append(f"cannot be read ({reason_of(error)})")
    return check


def _check_arrays(check: SlideCheck, store: FeatureStore) -> None:
    slide, scales = check.slide, store.attributes["magnifications"]
    attributes = store.slide_attributes(slide)
    check.problems += [f"{name}: is not among the store's magnifications" for name in store.undeclared(slide)]
    bags = {m: bag for m in sorted(scales) if (bag := store.read(slide, m)) is not None}
    if not any(len(bag.features) for bag in bags.values()):
        check.problems.append("has no tiles")
    recorded = recorded_tiles(attributes)
    stored = {str(m): len(bag.features) for m, bag in bags.items()}
    if recorded is not None and any(recorded.get(m, 0) != stored.get(m, 0) for m in recorded.keys() | stored.keys()):
        check.problems.append(f"its attributes record {recorded} tiles, and its arrays hold {stored}")
    for magnification, bag in bags.items():
        nominal = scales[magnification] * store.attributes["tile_px"]
        side = attributes.get("tile_um", {}).get(str(magnification), nominal)
        problems = bag_problems(bag, store.n_features, store.holds_vectors)
        if not problems and store.holds_vectors:
            if zeros := zero_rows(bag.features):
                check.unlikely.append(f"{magnification}x: {zeros} vectors hold zeros only")
        elif not problems:
            distinct = np.unique(bag.position, axis=0)
            check.unlikely += [f"{magnification}x: {problem}" for problem in _unlikely_values(bag, len(distinct))]
            _check_positions(check, attributes, magnification, distinct, side, nominal)
        coarse = bags.get(magnification // 2)
        if not problems:
            problems = _parent_problems(bag, coarse, side, attributes.get("nested_within_um", TOLERANCE_UM))
        check.problems += [f"{magnification}x: {problem}" for problem in problems]
    thumbnail = store.thumbnail(slide)
    if thumbnail is not None and (thumbnail.ndim != 3 or thumbnail.shape[2] != 3 or thumbnail.dtype != np.uint8):
        check.problems.append(f"thumbnail is {thumbnail.shape} {thumbnail.dtype}, not (H, W, 3) uint8")


def _unlikely_values(bag: SlideFeatures, n_distinct: int) -> list[str]:
    """List what is unlikely about the tiles of one magnification, which have `n_distinct` positions."""
    n = len(bag.position)
    problems = [] if n_distinct == n else [f"{n - n_distinct} tiles have the same position as another"]
    if zeros := zero_rows(bag.features):
        problems.append(f"{zeros} tiles hold zeros only")
    return problems


def _check_positions(
    check: SlideCheck,
    attributes: Mapping[str, Any],
    magnification: int,
    distinct: np.ndarray,
    side: float,
    nominal: float,
) -> None:
    """Check the distinct positions (N, 2) of the tiles of one magnification.

    The tiles are `side` µm wide and should be `nominal` µm.
    """
    position = distinct.astype(np.float64)
    distances = neighbour_distances(position)
    scale, usual = f"{magnification}x: ", usual_distance(distances)
    check.misplaced += [scale + problem for problem in scale_problems(attributes.get("mpp"), side, nominal, position)]
    overlaps = overlapping(distances, side)
    text = (
        f"{scale}{overlaps} of {len(distances)} tiles of {side:.4g} µm overlap another; most are {usual:.4g} µm apart"
    )
    if overlap_is_systematic(distances, side) or (
        overlaps and "tissue_mm2" in attributes
    ):  # tiles cut by dmml never overlap
        check.misplaced.append(text)
    elif overlaps:
        check.doubts.append(text)
    if outside := int((position < 0).any(axis=1).sum()):
        check.doubts.append(f"{scale}{outside} of {len(position)} tiles lie outside the slide, at negative positions")
    if are_apart(distances, side):
        check.doubts.append(
            f"{scale}tiles of {side:.4g} µm are {usual:.4g} µm apart: either most tissue was left out, or their size "
            "is not the stated one"
        )


def _parent_problems(bag: SlideFeatures, coarse: SlideFeatures | None, side: float, within: float) -> list[str]:
    """Check that the centre of each tile of `side` µm is half a side from its parent's on both axes, i.e. inside it."""
    if bag.parent is None:
        return []
    if problems := parent_problems(bag, None if coarse is None else len(coarse.features)):
        return problems
    if coarse is None:
        return [] if (bag.parent == -1).all() else ["has parents, but the coarser magnification is missing"]
    rows = np.flatnonzero(bag.parent >= 0)
    offset = np.abs(bag.position[rows] - coarse.position[bag.parent[rows]])
    outside = rows[(np.abs(offset - side / 2) > within).any(axis=1)]
    return [f"{len(outside)} tiles lie outside their parent, first in row {outside[0]}"] if len(outside) else []
