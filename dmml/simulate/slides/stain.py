"""Stain and scanner of a site: they turn dye concentrations into colours by the Beer–Lambert law."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

HEMATOXYLIN = (0.66, 0.68, 0.31)
EOSIN = (0.10, 0.90, 0.42)
RED_CELLS = (0.10, 0.78, 0.62)


@dataclass(frozen=True)
class Site:
    """Appearance of the slides of one site."""

    hematoxylin: tuple[float, float, float]
    """Optical density per unit of dye in red, green and blue."""
    eosin: tuple[float, float, float]
    strength: tuple[float, float]
    """Amount of hematoxylin and of eosin relative to the usual amount."""
    white: tuple[float, float, float]
    """Colour of the empty glass."""
    gamma: float
    blur: float
    """Standard deviation of the optical blur in pixels."""
    thickness: float
    """Thickness of the section relative to the usual one; it scales both dyes."""


def _site(
    hue: float,
    pink: float,
    strength: tuple[float, float],
    white: tuple[float, float, float],
    gamma: float,
    blur: float,
    thickness: float = 1.0,
) -> Site:
    """Make a site from the shift of its hematoxylin towards blue (`hue`) and of its eosin towards orange (`pink`)."""
    h = np.array(HEMATOXYLIN) + hue * np.array([0.10, -0.02, -0.14])
    e = np.array(EOSIN) + pink * np.array([-0.04, -0.06, 0.22])
    h, e = h / np.linalg.norm(h), e / np.linalg.norm(e)
    return Site(tuple(h), tuple(e), strength, white, gamma, blur, thickness)


STAINS = {
    "Aspen": _site(0.0, 0.0, (1.00, 1.00), (244, 243, 245), 1.00, 0.65),
    "Birch": _site(0.4, 0.3, (1.08, 0.92), (243, 244, 243), 0.97, 0.75),
    "Cedar": _site(-0.4, -0.3, (0.94, 1.08), (246, 243, 244), 1.03, 0.60),
    "Dogwood": _site(0.2, -0.4, (1.04, 1.00), (242, 242, 245), 1.00, 0.85),
    "Elm": _site(-0.2, 0.5, (0.95, 0.95), (245, 244, 241), 1.02, 0.70),
    "Fir": _site(0.5, -0.1, (1.00, 1.10), (244, 245, 246), 0.98, 0.80),
    "Hazel": _site(0.45, 0.9, (1.12, 0.84), (240, 243, 244), 0.95, 0.95, 1.05),
    "Juniper": _site(-0.9, 0.8, (0.90, 1.14), (247, 244, 239), 1.06, 0.70, 0.95),
    "Larch": _site(0.55, -0.7, (1.14, 1.05), (243, 241, 247), 0.95, 1.00, 1.05),
}
"""The development sites look similar; the held-out sites (Hazel, Juniper, Larch) lie outside their range."""


def stained_image(
    hematoxylin: np.ndarray, eosin: np.ndarray, red: np.ndarray, site: Site, rng: np.random.Generator
) -> np.ndarray:
    """Compute the transmitted light that a site's scanner records: I = white · exp(−gamma · Σ density · dye), blurred.

    Args:
        hematoxylin: (rows, columns) amount of hematoxylin.
        eosin: (rows, columns) amount of eosin.
        red: (rows, columns) amount of haemoglobin in red cells.
        site: Stain and scanner.
        rng: Random number generator; it varies the strength of the stain from slide to slide.

    Returns:
        (rows, columns, 3) float32 in 0…255.
    """
    strength = np.array(site.strength) * site.thickness * np.exp(rng.normal(0.0, 0.04, 2))
    image = np.empty((*hematoxylin.shape, 3), dtype=np.float32)
    for channel in range(3):
        density = np.float32(strength[0] * site.hematoxylin[channel]) * hematoxylin
        density += np.float32(strength[1] * site.eosin[channel]) * eosin
        density += np.float32(RED_CELLS[channel]) * red
        light = np.exp(np.float32(-site.gamma) * density)
        image[..., channel] = site.white[channel] * gaussian_filter(light, site.blur, truncate=2.5)
    return image
