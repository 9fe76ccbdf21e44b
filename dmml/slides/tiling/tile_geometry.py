"""Whether the spacing, overlap and scale of tiles are possible for slides and for a store of adjacent tiles."""

from __future__ import annotations

import numpy as np

from dmml.slides.wsi.mpp import MAX_MPP, MIN_MPP

SLACK = 0.02
"""Share of a tile's side by which neighbours may be closer: tools round positions to whole pixels of some level"""
MAX_OVERLAPPING = 0.25
"""Share of tiles that may overlap others before their stride, or the stated size, must be wrong. CLAM begins a separate
grid for every piece of tissue, so that a few tiles at the seams overlap"""
MAX_OFF_SCALE = 1.25
"""How many times larger or smaller than nominal a tile may be: STAMP's 8.75x is stored as 10x"""
MAX_SLIDE_UM = 250_000.0
"""Longest possible slide, in µm"""


def neighbour_distances(position: np.ndarray) -> np.ndarray:
    """Distance of every tile to its nearest neighbour, along the axis on which they are farther apart.

    Squares of the same size overlap when this distance is below their side.

    Args:
        position: (N, 2) in any unit.

    Returns:
        (N,) in that unit; infinite if there is only one tile.
    """
    if len(position) < 2:
        return np.full(len(position), np.inf)
    from scipy.spatial import cKDTree

    return cKDTree(position).query(position, k=2, p=np.inf)[0][:, 1]


def overlapping(distances: np.ndarray, side: float) -> int:
    """Number of tiles of this side that overlap their nearest neighbour."""
    return int((distances < (1 - SLACK) * side).sum())


def overlap_is_systematic(distances: np.ndarray, side: float) -> bool:
    """Whether so many tiles overlap that they were cut with a stride below their side, or that the side is wrong."""
    return overlapping(distances, side) >= max(2, MAX_OVERLAPPING * len(distances))


def usual_distance(distances: np.ndarray) -> float:
    """Median distance of a tile to its nearest neighbour; infinite if there are no distances."""
    return float(np.median(distances)) if len(distances) else np.inf


def are_apart(distances: np.ndarray, side: float) -> bool:
    """Whether there are many tiles and almost none touches another: the stated side is likely half of the true one."""
    return len(distances) >= 10 and float(np.quantile(distances, 0.1)) > 1.5 * side


def scale_problems(mpp: float | None, tile_um: float, nominal_um: float, position: np.ndarray) -> list[str]:
    """List what is impossible about the scale of a slide's tiles.

    Args:
        mpp: µm per pixel of the slide's finest level, None if unknown.
        tile_um: Side of its tiles, µm.
        nominal_um: Nominal side of tiles of this magnification, µm.
        position: (N, 2) µm.
    """
    problems = []
    if mpp is not None and not MIN_MPP <= mpp <= MAX_MPP:
        problems.append(f"its slide is stated to have {mpp:.4g} µm/px, which no scanner has ({MIN_MPP} to {MAX_MPP})")
    if not 1 / MAX_OFF_SCALE <= tile_um / nominal_um <= MAX_OFF_SCALE:
        problems.append(
            f"its tiles are {tile_um:.4g} µm wide, but at this magnification they should be {nominal_um:.4g} µm"
        )
    extent = np.ptp(position, axis=0).max() if len(position) else 0.0
    if extent > MAX_SLIDE_UM:
        problems.append(f"its tiles lie up to {extent / 1000:,.0f} mm apart, which is more than a slide is long")
    return problems
