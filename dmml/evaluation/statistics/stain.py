"""The stain of a slide in six numbers, from its thumbnail: enough to detect that another laboratory stained it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NAMES = tuple(f"{dye}, {what}" for what in ("mean", "spread") for dye in ("haematoxylin", "eosin", "residual"))
_DYES = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Optical density of each dye in red, green and blue. Source: Ruifrok & Johnston 2001."""
_MIN_DENSITY = 0.15
"""Mean optical density above which a pixel is tissue."""


def stain_of(thumbnail: NDArray[np.uint8]) -> NDArray[np.float64] | None:
    """Mean and standard deviation of the density of each dye over the tissue.

    Args:
        thumbnail: (H, W, 3) uint8.

    Returns:
        (6,) in the order of `NAMES`; None if fewer than 50 pixels are tissue.
    """
    density = -np.log10((thumbnail.reshape(-1, 3).astype(np.float64) + 1) / 256)
    density = density[density.mean(1) > _MIN_DENSITY]
    if len(density) < 50:
        return None
    dyes = _DYES / np.linalg.norm(_DYES, axis=1, keepdims=True)
    amount = density @ np.linalg.inv(dyes)
    return np.concatenate([amount.mean(0), amount.std(0)])
