"""Where tissue is, from a small picture of the slide: optical density and Otsu, nothing to download.

Glass is colourless at any brightness and stained tissue is not, so what is thresholded is the colourfulness of the
optical density, OD_c = −log10(I_c / glass_c): max_c OD_c − min_c OD_c. Ink is told from stain by its hue: eosin and
haematoxylin take green light away most, blue and green inks red light, black ink all of it.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

MASK_MPP = 8.0
"""µm/px at which tissue is looked for: a 20x tile of 224 px covers exactly 14 × 14 of these pixels"""
LOWEST_THRESHOLD, HIGHEST_THRESHOLD = 0.035, 0.055
"""Bounds on Otsu's threshold: below is glass with JPEG noise, above is tissue even where all is tissue"""
PEN_STRENGTH, PEN_EDGE = 0.25, 0.10
"""Colourfulness from which a hue makes a pixel ink, and from which it makes one next to ink so, as a stroke's soft edge"""
GREEN_INK = 0.75
"""Green and cyan ink: OD_green < 0.75 · OD_red. Stained tissue, averaged over a mask pixel, has 0.98 and more"""
BLUE_INK = (0.97, 0.30)
"""Blue ink: OD_green < 0.97 · OD_red and OD_blue < 0.30 · OD_green; haematoxylin has 1.08 and 0.41"""
BLACK_DENSITY, BLACK_COLOUR = 0.80, 0.35
"""Black ink or an unscanned area: every channel's OD ≥ 0.80, with little colour"""


def tissue_mask(
    picture: np.ndarray,
    mpp: float = MASK_MPP,
    smallest_um2: float = 4_000.0,
    largest_hole_um2: float = 12_000.0,
    smallest_pen_um2: float = 3_000.0,
) -> np.ndarray:
    """Mark the tissue on a small picture of a slide.

    Args:
        picture: (H, W, 3) uint8.
        mpp: µm per pixel of the picture.
        smallest_um2: Specks below this area are dropped, µm².
        largest_hole_um2: Holes up to this area are filled, µm².
        smallest_pen_um2: Ink covering less than this stays (marking ink on a margin sits on tissue), µm².

    Returns:
        (H, W) bool, True = tissue.
    """
    density = optical_density(picture)
    colour = ndimage.uniform_filter(density.max(axis=2) - density.min(axis=2), size=3, mode="nearest")
    threshold = float(np.clip(otsu(colour), LOWEST_THRESHOLD, HIGHEST_THRESHOLD))
    pen = pen_mask(density, smallest_pen_um2 / mpp**2)
    mask = ndimage.binary_closing(np.pad(colour > threshold, 2), iterations=1)[2:-2, 2:-2] & ~pen
    mask = _fill_holes(mask, largest_hole_um2 / mpp**2) & ~pen
    return _keep_large(mask, smallest_um2 / mpp**2)


def optical_density(picture: np.ndarray) -> np.ndarray:
    """OD against the slide's own glass: −log10(I / glass), at least 0. (H, W, 3) uint8 → float32."""
    pixels = picture.astype(np.float32)
    density = np.log10(glass_colour(picture).astype(np.float32)) - np.log10(np.maximum(pixels, 1.0))
    return np.maximum(density, 0.0)


def glass_colour(picture: np.ndarray) -> np.ndarray:
    """(3,) colour of the empty glass: the median of the brightest fifth of the bright pixels; near white if none is."""
    bright = picture[picture.min(axis=2) >= 200].astype(np.float32)
    if len(bright) < max(1, picture.shape[0] * picture.shape[1] // 1000):
        return np.full(3, 245.0)
    luminance = bright.sum(axis=1)
    return np.median(bright[luminance >= np.quantile(luminance, 0.8)], axis=0)


def otsu(values: np.ndarray, bins: int = 256) -> float:
    """Threshold that parts values into two groups with the largest variance between them: argmax w0·w1·(μ0 − μ1)²."""
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return high
    counts, edges = np.histogram(values, bins=bins, range=(low, high))
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    with np.errstate(invalid="ignore", divide="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[1 + int(np.nanargmax(np.where(above > 0, between, np.nan)))])


def pen_mask(density: np.ndarray, smallest: float) -> np.ndarray:
    """Ink and black areas of at least `smallest` pixels, with a margin of one pixel. (H, W, 3) OD → (H, W) bool."""
    red, green, blue = np.moveaxis(density, 2, 0)
    colour = density.max(axis=2) - density.min(axis=2)
    blue_ink = (green < BLUE_INK[0] * red) & (blue < BLUE_INK[1] * green)
    hue = (green < GREEN_INK * red) | blue_ink
    square = np.ones((3, 3), bool)
    ink = ndimage.binary_propagation(hue & (colour >= PEN_STRENGTH), square, mask=hue & (colour >= PEN_EDGE))
    black = (np.minimum(np.minimum(red, green), blue) >= BLACK_DENSITY) & (colour <= BLACK_COLOUR)
    pen = _keep_large(ink | black, smallest)
    return ndimage.binary_dilation(pen, structure=square)


def _keep_large(mask: np.ndarray, smallest: float) -> np.ndarray:
    """Drop connected parts (8 neighbours) of fewer than `smallest` pixels."""
    labels, n = ndimage.label(mask, structure=np.ones((3, 3), bool))
    if n == 0:
        return mask
    keep = np.bincount(labels.ravel(), minlength=n + 1) >= smallest
    keep[0] = False
    return keep[labels]


def _fill_holes(mask: np.ndarray, largest: float) -> np.ndarray:
    """Fill enclosed holes of at most `largest` pixels."""
    holes = ndimage.binary_fill_holes(mask) & ~mask
    labels, n = ndimage.label(holes)
    fill = np.bincount(labels.ravel(), minlength=n + 1) <= largest
    fill[0] = False
    return mask | fill[labels]
