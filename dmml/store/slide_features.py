"""Features of one slide at one magnification, and where its tiles lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class SlideFeatures:
    """Features of one slide at one magnification. As read, the arrays are read-only: they may be mapped files."""

    features: np.ndarray
    """(N, D) in the store's type: float16, or float32"""
    position: np.ndarray
    """(N, 2) float32 µm"""
    parent: np.ndarray | None = None
    """(N,) int32 row in the next coarser magnification, -1 = none; None where there is no coarser one"""
