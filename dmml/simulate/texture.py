"""Periodic noise that tissue is painted with: made once a process, cut out at random places ever after."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image

from dmml.simulate.truth import WORLD_SEED

SIDE = 1024
"""Pixels (0.5 µm) after which a texture repeats."""
FIBRE_ANGLES = np.deg2rad([0.0, 45.0, 90.0, 135.0])
FIBRE_WIDTH, FIBRE_LENGTH = 1.6, 26.0
"""Standard deviations in pixels across and along a fibre."""


def _filtered(response: np.ndarray, stream: int) -> np.ndarray:
    """White noise through a filter given in the frequency domain, standardised."""
    noise = np.random.default_rng([WORLD_SEED, 3, stream]).standard_normal((SIDE, SIDE))
    texture = np.fft.irfft2(np.fft.rfft2(noise) * response, s=(SIDE, SIDE))
    return ((texture - texture.mean()) / texture.std()).astype(np.float32)


@functools.cache
def grain(scale: float) -> np.ndarray:
    """(SIDE, SIDE) isotropic noise, smooth over `scale` pixels."""
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


def cut(texture: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(rows, columns) piece of a periodic texture (SIDE, SIDE) from a random place."""
    y, x = ((np.arange(side) + rng.integers(SIDE)) % SIDE for side in shape)
    return texture.take(y, axis=0).take(x, axis=1)


def enlarge(field: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resample a smooth field to more pixels, bicubic, as float32."""
    picture = Image.fromarray(np.ascontiguousarray(field, dtype=np.float32), mode="F")
    return np.asarray(picture.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))
