"""Periodic noise textures for painting tissue; each is computed once per process and then cropped at random offsets."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image

from dmml.simulate.truth import MODEL_SEED

SIDE = 1024
"""Period of a texture in pixels of 0.5 µm."""
FIBRE_ANGLES = np.deg2rad([0.0, 45.0, 90.0, 135.0])
FIBRE_WIDTH, FIBRE_LENGTH = 1.6, 26.0
"""Standard deviations in pixels across and along a fibre."""


def _filtered(response: np.ndarray, stream: int) -> np.ndarray:
    """Filter white noise with a frequency response, and standardise the result."""
    noise = np.random.default_rng([MODEL_SEED, 3, stream]).standard_normal((SIDE, SIDE))
    texture = np.fft.irfft2(np.fft.rfft2(noise) * response, s=(SIDE, SIDE))
    return ((texture - texture.mean()) / texture.std()).astype(np.float32)


@functools.cache
def smooth_noise(scale: float) -> np.ndarray:
    """Isotropic noise that is smooth over `scale` pixels: (SIDE, SIDE)."""
    fy, fx = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None, :]
    return _filtered(np.exp(-2 * (np.pi * scale) ** 2 * (fx**2 + fy**2)), stream=round(100 * scale))


@functools.cache
def fibres() -> tuple[np.ndarray, ...]:
    """One (SIDE, SIDE) texture of fibres for each of `FIBRE_ANGLES` (from the x axis towards y)."""
    fy, fx = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None, :]
    textures = []
    for k, angle in enumerate(FIBRE_ANGLES):
        along, across = np.cos(angle) * fx + np.sin(angle) * fy, np.cos(angle) * fy - np.sin(angle) * fx
        response = np.exp(-2 * np.pi**2 * ((FIBRE_LENGTH * along) ** 2 + (FIBRE_WIDTH * across) ** 2))
        textures.append(_filtered(response, stream=10_000 + k))
    return tuple(textures)


def random_crop(texture: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Cut a (rows, columns) piece out of a periodic (SIDE, SIDE) texture at a random offset."""
    y, x = ((np.arange(side) + rng.integers(SIDE)) % SIDE for side in shape)
    return texture.take(y, axis=0).take(x, axis=1)


def upsample(field: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Upsample a smooth field to `shape` with bicubic interpolation, as float32."""
    image = Image.fromarray(np.ascontiguousarray(field, dtype=np.float32), mode="F")
    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))
