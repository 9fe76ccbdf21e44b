"""Reduces pictures by a power of two, each pixel of the result being the rounded mean of the block that it covers."""

from __future__ import annotations

import numpy as np
from PIL import Image

_MIN_SUMMED = 4
"""Factor from which sums by NumPy are faster than Pillow, which first copies the picture to four bytes per pixel"""
_MAX_UINT16, _MAX_FLOAT32 = 256, 128
"""Factors up to which the sum of a column fits uint16, and the sum of a block is exact in float32"""


def block_means(pixels: np.ndarray, factor: int) -> np.ndarray:
    """(factor · h, factor · w, 3) uint8 → (h, w, 3) uint8, the same as Pillow's `Image.reduce`.

    Args:
        pixels: The picture; its sides are multiples of the factor.
        factor: A power of two.
    """
    if factor == 1:
        return pixels
    if factor < _MIN_SUMMED:
        return np.asarray(Image.fromarray(pixels).reduce(factor))
    height, width = (side // factor for side in pixels.shape[:2])
    of_columns = pixels.reshape(height, factor, width * factor * 3).sum(
        axis=1, dtype=np.uint16 if factor <= _MAX_UINT16 else np.uint32
    )
    # A product with ones sums each channel over the columns of a block, many times faster than a sum over an axis.
    channels = np.tile(np.eye(3, dtype=np.float32 if factor <= _MAX_FLOAT32 else np.float64), (factor, 1))
    sums = of_columns.reshape(height * width, factor * 3).astype(channels.dtype) @ channels
    means = (sums + factor**2 // 2) / factor**2  # exact, since the factor is a power of two
    return means.astype(np.uint8).reshape(height, width, 3)
