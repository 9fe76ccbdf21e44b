"""Artefacts of real slides: folds, tears, pen marks, dust, uneven light and sensor noise."""

from __future__ import annotations

import numpy as np

from dmml.simulate.slides.stain_maps import StainMaps
from dmml.simulate.slides.texture import random_crop, smooth_noise, upsample

FOLD_SHARE, TEAR_SHARE, PEN_SHARE = 0.15, 0.15, 0.12
"""Share of the slides that have each artefact."""
PEN_INKS = ((0.25, 0.30, 0.85), (0.15, 0.55, 0.30), (0.12, 0.12, 0.14))
"""Share of red, green and blue light that passes through blue, green and black ink."""


def fold_or_tear(stain_maps: StainMaps, rng: np.random.Generator) -> None:
    """Fold or tear the tissue, in place."""
    shape = stain_maps.eosin.shape
    if rng.random() < FOLD_SHARE:
        band = np.clip(1.4 - np.abs(_line(shape, rng)) / rng.uniform(6, 14), 0.0, 1.0)
        for dye in (stain_maps.eosin, stain_maps.hematoxylin, stain_maps.red):
            dye *= 1 + 0.9 * band
    if rng.random() < TEAR_SHARE:
        line = np.abs(_line(shape, rng))
        split = np.clip(rng.uniform(1.0, 5.0) + 4.0 * random_crop(smooth_noise(10.0), shape, rng) - line, 0.0, 1.0)
        for dye in (stain_maps.eosin, stain_maps.hematoxylin, stain_maps.red):
            dye *= 1 - split


def _line(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Approximate signed distance in pixels from a bent line through the map: (rows, columns)."""
    angle = rng.uniform(0, np.pi)
    middle = np.array(shape) * rng.uniform(0.3, 0.7, 2)
    y, x = np.arange(shape[0])[:, None] - middle[0], np.arange(shape[1])[None, :] - middle[1]
    along = (np.cos(angle) * x + np.sin(angle) * y).astype(np.float32)
    across = (np.cos(angle) * y - np.sin(angle) * x).astype(np.float32)
    bend = rng.uniform(20, 45) * np.sin(along / rng.uniform(120, 260) + rng.uniform(0, 6))
    return across + bend.astype(np.float32)


def draw_pen_stroke(image: np.ndarray, rng: np.random.Generator) -> None:
    """Draw a pen stroke on the cover glass beside the tissue of some slides, in place.

    Args:
        image: (rows, columns, 3) float32 image of the whole slide.
        rng: Random number generator.
    """
    if rng.random() >= PEN_SHARE:
        return
    ink = np.array(PEN_INKS[rng.integers(len(PEN_INKS))], dtype=np.float32)
    side, width = image.shape[0], rng.uniform(26, 44)
    axis = np.arange(side, dtype=np.float32)
    stroke = width * 1.4 + 14 * np.sin(axis / rng.uniform(160, 300) + rng.uniform(0, 6))
    distance = np.abs(axis[None, :] - stroke[:, None]) - width / 2
    start = rng.uniform(0.05, 0.50) * side
    stop = start + rng.uniform(0.20, 0.45) * side
    ends = np.maximum(start - axis, axis - stop)[:, None]
    cover = np.clip(0.5 - np.maximum(distance, ends) / 3, 0.0, 1.0)
    streaks = 0.85 + 0.06 * random_crop(smooth_noise(3.0), cover.shape, rng)
    cover = np.clip(cover * streaks, 0.0, 1.0)
    for turned in range(rng.integers(4)):  # rotate to a random one of the four margins
        cover = np.rot90(cover) if turned < 3 else cover
    image *= 1 - cover[..., None] * (1 - ink)


def scan(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn a image into what a scanner records, with uneven light, dust and sensor noise.

    Args:
        image: (rows, columns, 3) float32, changed in place.
        rng: Random number generator.

    Returns:
        (rows, columns, 3) uint8
    """
    shape = image.shape[:2]
    y, x = (np.linspace(-1, 1, 8)[:, None], np.linspace(-1, 1, 8)[None, :])
    tilt = rng.normal(0.0, 0.006, 2)
    light = upsample(1 + tilt[0] * y + tilt[1] * x - 0.012 * (x * x + y * y), shape)
    noise = 1.3 * random_crop(smooth_noise(0.6), shape, rng) + 0.5 * random_crop(smooth_noise(10.0), shape, rng) + 0.5
    for row, column in rng.integers(8, shape[0] - 8, (rng.poisson(10), 2)):
        size = rng.integers(1, 4)
        image[row : row + size, column : column + size] *= 0.8
    image *= light[..., None]
    image += noise[..., None]
    return np.clip(image, 0, 255, out=image).astype(np.uint8)
