"""Features of one slide at one magnification, and the positions of its tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class SlideFeatures:
    """Features of one slide at one magnification. Never write to arrays read from a store: they may be mapped files."""

    features: np.ndarray
    """(N, D) in the store's type, float16 or float32"""
    position: np.ndarray
    """(N, 2) float32, tile centre in µm from the slide's origin"""
    parent: np.ndarray | None = None
    """(N,) int32, row of the parent tile in the next coarser magnification, -1 = none; None if there is none"""
