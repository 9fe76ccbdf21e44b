"""Checks whether tiles of one magnification lie in the quarters of those of another, and finds their parents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dmml.slides.importing.check_files import CheckedFile

TOLERANCE_PX = 1.5
"""Pixels of the finest level by which a tile may miss its quarter: tools round positions to whole pixels of a level"""
_MAX_NAMES = 10
"""Number of slides that a message names"""


def parents_of(fine: CheckedFile, coarse: CheckedFile) -> tuple[np.ndarray, float]:
    """Find the coarse tile that holds each fine tile, and by how much the worst fine tile misses its quarter.

    A fine tile belongs to the coarse tile whose square holds its centre. It is nested when that centre lies a quarter
    of the coarse side from the coarse centre on both axes.

    Returns:
        (N_fine,) int32 rows of the coarse tiles, −1 if no coarse tile holds the fine one, and the largest miss in
        pixels of the finest level.
    """
    from scipy.spatial import cKDTree

    side = coarse.spec.level0_px
    coarse_centre = coarse.corner + side / 2
    fine_centre = fine.corner + fine.spec.level0_px / 2
    distance, row = cKDTree(coarse_centre).query(fine_centre, p=np.inf)
    is_inside = distance < side / 2 - 1e-6
    miss = np.abs(np.abs(fine_centre[is_inside] - coarse_centre[row[is_inside]]) - side / 4)
    worst = max(float(miss.max(initial=0.0)), abs(side - 2 * fine.spec.level0_px))
    return np.where(is_inside, row, -1).astype(np.int32), worst


def nesting_problem(slides: Mapping[str, tuple[CheckedFile, CheckedFile]], scales: Sequence[int]) -> str:
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
    misses = {slide_id: parents_of(fine, coarse)[1] for slide_id, (coarse, fine) in slides.items()}
    misses = {slide_id: worst for slide_id, worst in misses.items() if worst > TOLERANCE_PX}
    if not misses:
        return ""
    more = f" and {len(misses) - _MAX_NAMES} more" if len(misses) > _MAX_NAMES else ""
    text = (
        f"{', '.join(list(misses)[:_MAX_NAMES])}{more}: {fine_scale}x tiles do not lie in the quarters of {coarse_scale}x "
        f"tiles, {max(misses.values()):.0f} px off"
    )
    if len(misses) == len(slides):
        return text
    return (
        f"{text}; the other {len(slides) - len(misses)} slides nest: leave these out, or cut them again, to keep "
        f"{coarse_scale}x"
    )
