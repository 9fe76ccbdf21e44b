"""Fits the stains of a slide on a sample of its tissue."""

from __future__ import annotations

import numpy as np

from dmml.slides.slide_error import SlideError
from dmml.slides.stains.fit_stains import StainsNotFitted, fit_stains
from dmml.slides.stains.stains import Stains
from dmml.slides.wsi.levels import MAX_UNREADABLE_SHARE
from dmml.slides.wsi.slide import Slide

_FIELDS = 48
"""Number of fields that are read"""
_MAX_FIELD_UM = 112.0
"""Largest side of a field: of a larger square, only the middle is read"""
_FIELD_MPP = 1.0
"""µm per pixel of a field"""
_MIN_SHARE = 0.5
"""Share of tissue of a field, so that tiles at the edge do not count; if no field has it, all with some tissue do"""


def fit_slide_stains(slide: Slide, method: str, share: np.ndarray, side: float) -> Stains:
    """Fit the stains of a slide on evenly spaced fields of its tissue.

    The fields do not depend on the magnifications of the tiles, so that a model that reads one of a store's two
    magnifications normalises a further slide as the store did.

    Args:
        slide: The slide.
        method: One of `dmml.slides.stains.stains.METHODS`.
        share: (rows, columns) share of tissue of the squares of a grid that begins at the slide's origin.
        side: Side of such a square, µm.

    Raises:
        SlideError: The fields do not show two stains (state `no_stains`).
    """
    cells = np.argwhere(share >= _MIN_SHARE)
    cells = cells if len(cells) else np.argwhere(share > 0)
    picks = np.unique(np.linspace(0, len(cells) - 1, min(len(cells), _FIELDS)).round().astype(int))
    field_um = min(side, _MAX_FIELD_UM)
    field_px = round(field_um / _FIELD_MPP)
    corners = [
        ((column + 0.5) * side - field_um / 2, (row + 0.5) * side - field_um / 2)
        for row, column in cells[picks].tolist()
    ]
    while True:
        fields = [_read(slide, x, y, field_px) for x, y in corners]
        n_unreadable, level = sum(not len(field) for field in fields), slide.level_for(_FIELD_MPP)
        if not level or n_unreadable <= MAX_UNREADABLE_SHARE * len(fields):
            break
        slide.ignore_damaged(level, _FIELD_MPP, f"{n_unreadable} of {len(fields)} fields of tissue")
    try:
        return fit_stains(method, np.concatenate([np.zeros((0, 3), np.uint8), *fields]))
    except StainsNotFitted as error:
        raise SlideError(
            "no_stains",
            f"{slide.path}: its stains cannot be fitted: {error}; leave it out, or extract all slides without "
            "--stain-normalization",
        ) from error


def _read(slide: Slide, x_um: float, y_um: float, side: int) -> np.ndarray:
    """(side², 3) uint8; empty if this part of the file cannot be decoded."""
    try:
        return slide.read(x_um, y_um, side, side, _FIELD_MPP).reshape(-1, 3)
    except SlideError as error:
        if error.state != "unreadable":
            raise
        return np.zeros((0, 3), np.uint8)
