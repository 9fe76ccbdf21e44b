"""Checks whether tiles of one magnification lie in the quarters of those of another, and finds their parents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dmml.slides.importing.features import ForeignSlide

TOLERANCE_PX = 1.5
"""Pixels of the finest level by which a tile may miss its quarter: tools round positions to whole pixels of a level"""

_MOST_NAMES = 10


def parents_of(fine: ForeignSlide, coarse: ForeignSlide) -> tuple[np.ndarray, float]:
    """Find the coarse tile that holds each fine tile, and by how much the worst fine tile misses its quarter.

    A fine tile belongs to the coarse tile whose square holds its centre. It is nested when that centre lies a quarter
    of the coarse side from the coarse centre on both axes.

    Returns:
        (N_fine,) int32 rows of the coarse tiles, −1 if no coarse tile holds the fine one, and the largest miss in
        pixels of the finest level.
    """
    from scipy.spatial import cKDTree

    side = coarse.cutting.level0_px
    centre = coarse.corner + side / 2
    point = fine.corner + fine.cutting.level0_px / 2
    distance, row = cKDTree(centre).query(point, p=np.inf)
    inside = distance < side / 2 - 1e-6
    miss = np.abs(np.abs(point[inside] - centre[row[inside]]) - side / 4)
    worst = max(float(miss.max(initial=0.0)), abs(side - 2 * fine.cutting.level0_px))
    return np.where(inside, row, -1).astype(np.int32), worst


def why_not_nested(slides: Mapping[str, tuple[ForeignSlide, ForeignSlide]], scales: Sequence[int]) -> str:
    """State why a store cannot hold two magnifications together; empty if it can.

    Args:
        slides: {slide_id: (coarse, fine)} of the slides that have both.
        scales: The coarse and the fine magnification.
    """
    coarse_scale, fine_scale = scales
    if fine_scale != 2 * coarse_scale:
        return f"{fine_scale}x is not twice {coarse_scale}x"
    if not slides:
        return f"no slide has both {coarse_scale}x and {fine_scale}x"
    off = {slide_id: parents_of(fine, coarse)[1] for slide_id, (coarse, fine) in slides.items()}
    off = {slide_id: worst for slide_id, worst in off.items() if worst > TOLERANCE_PX}
    if not off:
        return ""
    names = ", ".join(list(off)[:_MOST_NAMES]) + (
        f" and {len(off) - _MOST_NAMES} more" if len(off) > _MOST_NAMES else ""
    )
    text = f"{names}: {fine_scale}x tiles do not lie in the quarters of {coarse_scale}x tiles, {max(off.values()):.0f} px off"
    if len(off) == len(slides):
        return text
    return f"{text}; the other {len(slides) - len(off)} slides nest: leave these out, or cut them again, to keep {coarse_scale}x"
