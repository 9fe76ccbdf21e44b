"""Tissue types, and maps of them that reflect the factors that a slide shows."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

GLASS, TUMOR, STROMA, NORMAL, LYMPHOID = range(5)
TISSUE_NAMES = ("glass", "tumor", "stroma", "normal", "lymphoid")
TISSUE_COLOURS = ((245, 245, 245), (120, 60, 150), (230, 150, 170), (240, 210, 190), (40, 60, 130))
"""RGB palette of the label pictures in `truth/`, in the order of `TISSUE_NAMES`."""


def smooth_field(shape: tuple[int, int], scale: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a Gaussian random field of mean 0 and standard deviation 1 that is smooth over `scale` pixels."""
    pad = int(np.ceil(3 * scale))
    field = gaussian_filter(rng.standard_normal((shape[0] + 2 * pad, shape[1] + 2 * pad)), scale, mode="wrap")
    field = field[pad : pad + shape[0], pad : pad + shape[1]]
    return (field - field.mean()) / max(field.std(), 1e-9)


def island(
    shape: tuple[int, int], radius: tuple[float, float], roughness: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw the mask of one irregular piece of tissue.

    Args:
        shape: Rows and columns of the map.
        radius: Half the height and half the width in pixels.
        roughness: How far the outline deviates from the smooth shape, in radii.
        rng: Random number generator.

    Returns:
        (rows, columns) bool, True = tissue.
    """
    y = (np.arange(shape[0]) - (shape[0] - 1) / 2)[:, None] / radius[0]
    x = (np.arange(shape[1]) - (shape[1] - 1) / 2)[None, :] / radius[1]
    # An exponent of 2.6 gives a shape between an ellipse and a rectangle: pieces of tissue are cut to fit a cassette.
    distance = (np.abs(y) ** 2.6 + np.abs(x) ** 2.6) ** (1 / 2.6)
    return distance + roughness * smooth_field(shape, 0.35 * min(radius), rng) < 1.0


def divide_tissue(mask: np.ndarray, scale: float, visible: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Divide a tissue mask into contiguous regions of tumor, stroma, normal tissue and lymphoid aggregates.

    Args:
        mask: (rows, columns) bool, True = tissue.
        scale: Smoothness of the regions in pixels.
        visible: (6,) factors that the slide shows. Lymphocytes enlarge the aggregates, fibrosis enlarges the stroma.
        rng: Random number generator.

    Returns:
        (rows, columns) uint8 labels: the tissue constants of this module.
    """
    lymphocytes, fibrosis = visible[3], visible[4]
    tumor, normal, lymphoid = (smooth_field(mask.shape, s * scale, rng) for s in (1.0, 1.3, 0.8))
    labels = np.full(mask.shape, STROMA, dtype=np.uint8)

    def highest(field: np.ndarray, share: float) -> np.ndarray:
        return field > np.quantile(field[mask], 1 - np.clip(share, 0.0, 0.95))

    labels[highest(normal - tumor, 0.13)] = NORMAL
    labels[highest(tumor, 0.54 - 0.04 * fibrosis)] = TUMOR
    aggregates = highest(lymphoid, 0.10 * np.exp(0.45 * lymphocytes))
    labels[aggregates & (labels != NORMAL)] = LYMPHOID
    labels[~mask] = GLASS
    return labels
