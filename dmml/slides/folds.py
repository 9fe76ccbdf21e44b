"""Folds: strips where tissue lies double, so that both dyes are about twice as dense as in the rest of the slide.

Dense nuclei raise haematoxylin alone, blood and keratin raise eosin alone; what raises both, in a strip, is a fold.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

DYES = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11))
"""Optical density of haematoxylin and eosin in red, green and blue (Ruifrok and Johnston 2001), unit vectors nearly"""
FOLD_RATIO = 1.6
"""Both dyes at this many times their median in the slide's tissue; two layers have 2, blurred at the edges"""
LEAST_LENGTH_UM, LEAST_STRETCH = 300.0, 4.0
"""A fold is at least this long, and this many times longer than wide"""
LEAST_DENSITY = 0.05
"""Median density of a dye below which the slide is not stained with both, and nothing is called a fold"""


def fold_mask(density: np.ndarray, tissue: np.ndarray, mpp: float) -> np.ndarray:
    """Mark the folds of a slide.

    Args:
        density: (H, W, 3) optical density.
        tissue: (H, W) bool.
        mpp: µm per pixel.

    Returns:
        (H, W) bool
    """
    nothing = np.zeros_like(tissue)
    if not tissue.any():
        return nothing
    dense = tissue.copy()
    for weights in np.linalg.pinv(np.asarray(DYES, np.float32)).T:
        dye = density @ weights  # (H, W)
        typical = np.median(dye[tissue])
        if typical < LEAST_DENSITY:
            return nothing
        dense &= ndimage.uniform_filter(dye, 3, mode="nearest") >= FOLD_RATIO * typical
    labels, n = ndimage.label(dense, structure=np.ones((3, 3), bool))
    folds = nothing
    for label, box in enumerate(ndimage.find_objects(labels, max_label=n), start=1):
        part = labels[box] == label
        # Length along the main axis and width by area: a bent strip is still longer than it is wide.
        length = np.hypot(*(side.stop - side.start for side in box))
        width = part.sum() / max(length, 1.0)
        if length * mpp >= LEAST_LENGTH_UM and length >= LEAST_STRETCH * max(width, 1.0):
            folds[box] |= part
    return folds
