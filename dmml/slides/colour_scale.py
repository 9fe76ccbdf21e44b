"""Where the colour scales of tile values end, so that every map of the same tiles has the same colours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STRONGEST = 99
"""Percentile of the tiles' values at which the colour scale ends"""
MIN_RANGE = 2.0
"""The colour scale of attention reaches at least twice the average tile, so that even attention looks even"""
CONTRIBUTION_MAP, ATTENTION_MAP = "RdBu_r", "viridis"
"""Matplotlib's names of the colour maps; red raises, and blue lowers, the number by which a task compares tiles"""


def contribution_limit(values: NDArray[np.float64]) -> float:
    """Contribution at which the colour scale ends in both directions; 0 if no tile contributes."""
    return float(np.percentile(np.abs(values), STRONGEST)) or float(np.abs(values).max())


def attention_limit(values: NDArray[np.float64]) -> float:
    """Attention, in multiples of the average tile, at which the colour scale that begins at 0 ends."""
    return max(float(np.percentile(values, STRONGEST)), MIN_RANGE)


def colour_table(name: str) -> NDArray[np.uint8]:
    """Return the (256, 3) colours of a colour map from its lower to its upper end."""
    from matplotlib import colormaps

    return np.asarray((colormaps[name](np.linspace(0, 1, 256))[:, :3] * 255).round().astype(np.uint8))
