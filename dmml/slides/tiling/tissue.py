"""Finds tissue on a small picture of the slide by optical density and Otsu's threshold, without a model to download.

Glass is colourless at any brightness and stained tissue is not. The threshold is therefore applied to the
colourfulness of the optical density, OD_c = −log10(I_c / glass_c): max_c OD_c − min_c OD_c. Ink differs from stain by
its hue: eosin and haematoxylin absorb mostly green light, blue and green inks absorb red light, and black ink absorbs
all light. Red and orange inks absorb green and blue light equally, as blood does, but more of it, and let all red light
pass. Coverslip edges, bubbles and dust are colourless, lines are thin, and folds are dense in both dyes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
from scipy import ndimage

from dmml.class_paths import import_named
from dmml.errors import InputError
from dmml.slides.tiling.grid import DEFAULT_TISSUE
from dmml.slides.tiling.tissue_folds import fold_mask

TissueFunction = Callable[[np.ndarray, float], object]
"""Function of the picture (H, W, 3) uint8 and its µm per pixel; returns the tissue, (H, W) bool"""

MASK_MPP = 8.0
"""µm/px at which tissue is searched for: a 20x tile of 224 px covers exactly 14 × 14 of these pixels"""
_COARSER_MPP = (16.0, 28.0, 56.0)
"""µm/px at which tissue is searched for on larger slides"""
MAX_PIXELS = 8_000_000
"""Largest picture on which tissue is searched for, in pixels: 22 × 22 mm at 8 µm/px, which takes about 300 MB"""
_MAX_GLASS_SPREAD = 4
"""Largest deviation of a glass pixel of the mask from the glass colour, in grey levels; pale tissue has texture"""
MIN_THRESHOLD, MAX_THRESHOLD = 0.035, 0.055
"""Bounds on Otsu's threshold: lower values are glass with JPEG noise, higher ones tissue, even if it fills the slide"""
PEN_STRENGTH, PEN_EDGE = 0.25, 0.10
"""Colourfulness from which a pixel of ink's hue is ink, and from which a pixel next to ink is a stroke's soft edge"""
GREEN_INK = 0.75
"""Green and cyan ink: OD_green < 0.75 · OD_red. Stained tissue, averaged over a mask pixel, has at least 0.98"""
BLUE_INK = (0.97, 0.30)
"""Blue ink: OD_green < 0.97 · OD_red and OD_blue < 0.30 · OD_green; haematoxylin has ratios of 1.08 and 0.41"""
RED_INK = (0.10, 0.75)
"""Red and orange ink: OD_red < 0.10 · OD_green and OD_blue > 0.75 · OD_green; dense blood has at least 0.12"""
RED_STRENGTH, RED_EDGE = 0.75, 0.55
"""Colourfulness of red ink and of a stroke's soft edge; paler red ink looks like eosin and blood, so it is kept"""
BLACK_DENSITY, BLACK_COLOUR = 0.80, 0.35
"""Black ink or an unscanned area: every channel's OD ≥ 0.80, with little colour"""


def tissue_mask(
    picture: np.ndarray,
    mpp: float = MASK_MPP,
    min_area_um2: float = 4_000.0,
    max_hole_um2: float = 12_000.0,
    min_pen_um2: float = 3_000.0,
) -> np.ndarray:
    """Mark the tissue on a small picture of a slide.

    Args:
        picture: (H, W, 3) uint8.
        mpp: µm per pixel of the picture.
        min_area_um2: Specks below this area are dropped, µm².
        max_hole_um2: Holes up to this area are filled, µm².
        min_pen_um2: Ink areas below this size are kept (marking ink on a margin sits on tissue), µm².

    Returns:
        (H, W) bool, True = tissue.
    """
    return _segment(picture, mpp, min_area_um2, max_hole_um2, min_pen_um2)[0]


def _segment(
    picture: np.ndarray,
    mpp: float,
    min_area_um2: float = 4_000.0,
    max_hole_um2: float = 12_000.0,
    min_pen_um2: float = 3_000.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return tissue, pen and folds, each (H, W) bool."""
    density = optical_density(picture)
    colour = ndimage.uniform_filter(colourfulness(density), size=3, mode="nearest")
    threshold = float(np.clip(otsu(colour), MIN_THRESHOLD, MAX_THRESHOLD))
    pen = pen_mask(density, min_pen_um2 / mpp**2)
    mask = ndimage.binary_closing(np.pad(colour > threshold, 2), iterations=1)[2:-2, 2:-2] & ~pen
    mask = _fill_holes(mask, max_hole_um2 / mpp**2) & ~pen
    fold = fold_mask(density, mask, mpp)
    mask = _drop_thin(_drop_small(mask & ~fold, min_area_um2 / mpp**2))
    return mask, pen, fold


def find_tissue(name: str, picture: np.ndarray, mpp: float = MASK_MPP) -> tuple[np.ndarray, dict[str, float]]:
    """Mark the tissue with the method of the given name.

    Args:
        name: `colour`, or `module:function` of a `TissueFunction`.
        picture: (H, W, 3) uint8.
        mpp: µm per pixel of the picture.

    Returns:
        The tissue, (H, W) bool, and the areas of what is unusual, mm²: `pen` and `fold`, which were left out, and
        `border`, tissue that is cut off by the edge of the scan.

    Raises:
        InputError: The function does not exist, it fails, or it does not return a mask of the picture's size.
    """
    if name == DEFAULT_TISSUE:
        mask, pen, fold = _segment(picture, mpp)
        return mask, _areas(mask, mpp, pen=pen, fold=fold)
    function = tissue_function(name)
    try:
        mask = np.asarray(function(picture, mpp))
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InputError(f"--tissue {name}: failed ({reason}); correct the function") from error
    if mask.shape != picture.shape[:2] or mask.dtype != bool:
        raise InputError(
            f"--tissue {name}: returned {mask.shape} {mask.dtype}; it must return a bool array of {picture.shape[:2]}"
        )
    return mask, _areas(mask, mpp)


def tissue_function(name: str) -> TissueFunction:
    """Import the function that `module:function` names.

    Raises:
        InputError: It does not exist.
    """
    if ":" not in name:
        raise InputError(f"--tissue {name}: give {DEFAULT_TISSUE}, or module:function of a file in this folder")
    function = import_named("--tissue", name)
    if not callable(function):
        raise InputError(f"--tissue {name}: is not a function; name one of (picture, mpp)")
    return cast("TissueFunction", function)


def _areas(mask: np.ndarray, mpp: float, **parts: np.ndarray) -> dict[str, float]:
    edge = np.zeros_like(mask)
    edge[:2], edge[-2:], edge[:, :2], edge[:, -2:] = (mask[:2], mask[-2:], mask[:, :2], mask[:, -2:])
    sizes = {name: round(float(part.sum()) * mpp**2 / 1e6, 3) for name, part in {**parts, "border": edge}.items()}
    return {name: size for name, size in sizes.items() if size}


def mask_scale(size_um: tuple[float, float], tile: float) -> float:
    """Choose the µm per pixel at which tissue is searched for: 8, or coarser if the picture would become too large.

    If a tile does not span a whole number of pixels of these scales, as tiles of 224 px do, scales near them are taken
    of which it does.

    Args:
        size_um: Width and height of the slide.
        tile: Side of the tiles whose tissue is measured, µm; it spans a whole number of mask pixels.
    """
    scales = [mpp for mpp in (MASK_MPP, *_COARSER_MPP) if (tile / mpp).is_integer()]
    if not (tile / _COARSER_MPP[-1]).is_integer():
        scales = [tile / max(1, round(tile / mpp)) for mpp in (MASK_MPP, *_COARSER_MPP)]
    small_enough = [mpp for mpp in scales if size_um[0] * size_um[1] / mpp**2 <= MAX_PIXELS]
    return small_enough[0] if small_enough else scales[-1]


def colourfulness(density: np.ndarray) -> np.ndarray:
    """Largest minus smallest channel; (H, W, 3) → (H, W). By channel, this is five times faster than over an axis."""
    red, green, blue = (density[..., i] for i in range(3))
    return np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)


def optical_density(picture: np.ndarray) -> np.ndarray:
    """Optical density relative to the slide's glass: −log10(I / glass), at least 0. (H, W, 3) uint8 → float32."""
    glass = np.log10(glass_colour(picture).astype(np.float32))
    table = np.maximum(
        glass[None] - np.log10(np.maximum(np.arange(256, dtype=np.float32), 1))[:, None], 0.0
    )  # (256, 3)
    density = np.empty(picture.shape, np.float32)
    for channel in range(3):
        np.take(table[:, channel].astype(np.float32), picture[..., channel], out=density[..., channel])
    return density


def glass_colour(picture: np.ndarray) -> np.ndarray:
    """Estimate the glass colour (3,): median of the brightest fifth of the bright pixels; near white if there are none.

    Unscanned areas are pure white. They are ignored if the other bright pixels share one colour, as glass does.
    """
    step = max(1, int(np.sqrt(picture.shape[0] * picture.shape[1] / 1e6)))
    picture = picture[::step, ::step]
    darkest = np.minimum(np.minimum(picture[..., 0], picture[..., 1]), picture[..., 2])
    bright = picture[darkest >= 200].astype(np.float32)
    if len(bright) < max(1, picture.shape[0] * picture.shape[1] // 1000):
        return np.full(3, 245.0)
    scanned = bright[(bright < 255).any(axis=1)]
    if 0 < len(scanned) < len(bright):
        glass = _median_of_brightest(scanned)
        n_alike = (np.abs(scanned - glass) <= _MAX_GLASS_SPREAD).all(axis=1).sum()
        if n_alike >= max(0.25 * len(scanned), 0.01 * picture.shape[0] * picture.shape[1]):
            return glass
    return _median_of_brightest(bright)


def _median_of_brightest(pixels: np.ndarray) -> np.ndarray:
    """Median of the brightest fifth of the pixels; (N, 3) → (3,)."""
    luminance = pixels.sum(axis=1)
    return np.asarray(np.median(pixels[luminance >= np.quantile(luminance, 0.8)], axis=0))


# Otsu's threshold, the removal of specks and the filling of holes are written here rather than taken from scikit-image:
# see docs/decisions/written_by_hand.md for the differences and what they would cost.


def otsu(values: np.ndarray, bins: int = 256) -> float:
    """Threshold that splits values into two groups with the largest variance between them: argmax w0·w1·(μ0 − μ1)²."""
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


def pen_mask(density: np.ndarray, min_pixels: float) -> np.ndarray:
    """Mark ink and black areas of at least `min_pixels` pixels, with a margin of a pixel. (H, W, 3) OD → (H, W) bool."""
    red, green, blue = np.moveaxis(density, 2, 0)
    colour = colourfulness(density)
    blue_ink = (green < BLUE_INK[0] * red) & (blue < BLUE_INK[1] * green)
    hue = (green < GREEN_INK * red) | blue_ink
    square = np.ones((3, 3), bool)
    ink = ndimage.binary_propagation(hue & (colour >= PEN_STRENGTH), square, mask=hue & (colour >= PEN_EDGE))
    red_hue = (red < RED_INK[0] * green) & (blue > RED_INK[1] * green)
    ink |= ndimage.binary_propagation(red_hue & (colour >= RED_STRENGTH), square, mask=red_hue & (colour >= RED_EDGE))
    black = (np.minimum(np.minimum(red, green), blue) >= BLACK_DENSITY) & (colour <= BLACK_COLOUR)
    pen = _drop_small(ink | black, min_pixels)
    return ndimage.binary_dilation(pen, structure=square)


def _drop_small(mask: np.ndarray, min_pixels: float) -> np.ndarray:
    """Drop connected components (8 neighbours) of fewer than `min_pixels` pixels."""
    labels, n = ndimage.label(mask, structure=np.ones((3, 3), bool))
    if n == 0:
        return mask
    keep = np.bincount(labels.ravel(), minlength=n + 1) >= min_pixels
    keep[0] = False
    return keep[labels]


def _drop_thin(mask: np.ndarray) -> np.ndarray:
    """Drop connected components without a block of 3 × 3 pixels: edges of the cover glass, scratches, threads."""
    core = ndimage.binary_erosion(np.pad(mask, 1, mode="edge"), np.ones((3, 3), bool))[1:-1, 1:-1]
    return ndimage.binary_propagation(core, np.ones((3, 3), bool), mask=mask)


def _fill_holes(mask: np.ndarray, max_pixels: float) -> np.ndarray:
    """Fill enclosed holes (4 neighbours) of at most `max_pixels` pixels; what touches the edge is not a hole."""
    labels, n = ndimage.label(~mask)
    fill = np.bincount(labels.ravel(), minlength=n + 1) <= max_pixels
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        fill[edge] = False
    fill[0] = False
    return mask | fill[labels]
