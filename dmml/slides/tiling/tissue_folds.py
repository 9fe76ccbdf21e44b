"""Finds folds: strips of doubled tissue, in which both dyes are about twice as dense as in the rest of the slide.

Dense nuclei raise only haematoxylin, blood and keratin raise only eosin; a strip in which both are raised is a fold.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

DYES = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11))
"""Optical density of haematoxylin and eosin in red, green and blue (Ruifrok and Johnston 2001), nearly unit vectors"""
FOLD_RATIO = 1.6
"""A fold has at least this many times the tissue's median of both dyes; two layers have 2, less at blurred edges"""
MIN_LENGTH_UM, MIN_STRETCH = 300.0, 4.0
"""A fold is at least this long, and at least this many times longer than wide"""
MIN_DENSITY = 0.05
"""Median density of a dye below which the slide is not stained with both dyes, so that no folds are marked"""


def fold_mask(density: np.ndarray, tissue: np.ndarray, mpp: float) -> np.ndarray:
    """Mark the folds of a slide.

    Args:
        density: (H, W, 3) optical density.
        tissue: (H, W) bool.
        mpp: µm per pixel.

    Returns:
        (H, W) bool
    """
    folds = np.zeros_like(tissue)
    if not tissue.any():
        return folds
    dense = tissue.copy()
    for weights in np.linalg.pinv(np.asarray(DYES, np.float32)).T:
        dye = density @ weights  # (H, W)
        typical = np.median(dye[tissue])
        if typical < MIN_DENSITY:
            return folds
        dense &= ndimage.uniform_filter(dye, 3, mode="nearest") >= FOLD_RATIO * typical
    labels, n = ndimage.label(dense, structure=np.ones((3, 3), bool))
    for label, box in enumerate(ndimage.find_objects(labels, max_label=n), start=1):
        component = labels[box] == label
        # Length is the diagonal of the bounding box, and width is area over length: this holds for bent strips, too.
        length = np.hypot(*(side.stop - side.start for side in box))
        width = component.sum() / max(length, 1.0)
        if length * mpp >= MIN_LENGTH_UM and length >= MIN_STRETCH * max(width, 1.0):
            folds[box] |= component
    return folds
