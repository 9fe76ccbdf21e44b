"""Draws the curves of a deletion test as a small SVG, without a plotting library, which takes longer to import."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dmml.evaluation.plots.style import VERMILLION
from dmml.experiment.predict_slide.explain.deletion import Deletion

_WIDTH, _HEIGHT, _MARGIN = 160, 72, 4


def deletion_svg(result: Deletion) -> str:
    """Return the SVG: the map's curve, and the mean and the band of random orders."""
    mean, low, high = result.random_band
    values = np.concatenate([result.curve, low, high])
    bottom, top = float(values.min()), float(values.max())
    span = (top - bottom) or 1.0

    def points(shares: NDArray[np.float64], curve: NDArray[np.float64]) -> str:
        x = _MARGIN + (_WIDTH - 2 * _MARGIN) * shares / result.shares[-1]
        y = _MARGIN + (_HEIGHT - 2 * _MARGIN) * (top - curve) / span
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))

    band = points(np.concatenate([result.shares, result.shares[::-1]]), np.concatenate([low, high[::-1]]))
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" '
        'aria-label="logit as tiles are removed">'
        f'<polygon points="{band}" fill="#999" fill-opacity="0.3"/>'
        f'<polyline points="{points(result.shares, mean)}" fill="none" stroke="#777" stroke-dasharray="3 2"/>'
        f'<polyline points="{points(result.shares, result.curve)}" fill="none" stroke="{VERMILLION}" stroke-width="2"/>'
        "</svg>"
    )
