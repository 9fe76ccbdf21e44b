"""Replaces the stains of a picture: each pixel's concentrations of the slide's stains, painted with the target's."""

from __future__ import annotations

import numpy as np

from dmml.slides.stains.stains import Stains

TRANSMITTED = 240.0
"""Brightness of light that passed through no stain, torchstain's value"""


class ColourMap:
    """Function from the colours of a slide to those of a target, for whole pictures.

    The optical density of a pixel is −ln((I + 1) / 240) per channel, as in torchstain. Its concentrations c of the
    slide's stains are those of least squares; they are multiplied by the ratio of the 99th percentiles of target and
    slide, and the target's stains with these concentrations give the new optical density (Macenko et al. 2009). All
    this is one linear map M (3 × 3) of the optical density, so that the new brightness of a channel is a product of
    three factors, each a function of one channel of the pixel: 240 · Π_i ((I_i + 1) / 240)^M_ij. A pixel's result does
    not depend on other pixels.

    Args:
        slide: Stains of the slide.
        target: Stains of the target.
    """

    def __init__(self, slide: Stains, target: Stains):
        stains, wanted = (np.array([each.hematoxylin, each.eosin]) for each in (slide, target))  # (2, 3)
        ratio = np.array(target.strength) / np.array(slide.strength)
        linear = np.linalg.pinv(stains) @ (ratio[:, None] * wanted)  # (3, 3)
        density = -np.log((np.arange(256) + 1) / TRANSMITTED)
        self._factors = [np.exp(-np.outer(density, row)).astype(np.float32) for row in linear]  # 3 × (256, 3)
        self._factors[0] = (self._factors[0] * TRANSMITTED).astype(np.float32)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Map (…, 3) uint8 to the target's colours, of the same shape and type."""
        red, green, blue = (
            np.take(factors, picture[..., channel], axis=0) for channel, factors in enumerate(self._factors)
        )
        red *= green
        red *= blue
        np.rint(red, out=red)
        return np.minimum(red, 255.0, out=red).astype(np.uint8)
