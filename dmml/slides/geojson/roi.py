"""Regions of interest: the parts of a slide to which a user restricts the tiles, drawn in QuPath."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dmml.errors import InputError
from dmml.slides.geojson.reading import read_areas
from dmml.slides.slide_error import SlideError

if TYPE_CHECKING:
    from shapely import Geometry

    from dmml.slides.wsi.slide import Slide

SUFFIX = ".geojson"
_ROWS = 256
"""Rows of a mask that are compared with the regions at a time, so that memory does not grow with the slide"""


@dataclass(frozen=True)
class Roi:
    """The regions of interest of a slide.

    Attributes:
        path: The file.
        digest: SHA-256 of the file.
        area: The regions, in pixels of the finest level from the slide's origin.
    """

    path: Path
    digest: str
    area: Geometry

    @property
    def record(self) -> dict[str, str]:
        """The entry `roi` among the attributes of a slide."""
        return {"file": self.path.name, "sha256": self.digest}


def check_roi(roi: str | Path | None) -> None:
    """Check that the option names a file or a folder with regions.

    Raises:
        InputError: It does not exist, or it is a folder without a file of regions.
    """
    if roi is None:
        return
    path = Path(roi)
    if not path.exists():
        raise InputError(f"--roi {roi}: no such file or folder")
    if path.is_dir() and next(path.glob(f"*{SUFFIX}"), None) is None:
        raise InputError(f"--roi {roi}: the folder holds no file that ends in {SUFFIX}; name them <slide>{SUFFIX}")


def check_one_slide(roi: str | Path | None, n_slides: int) -> None:
    """Refuse a single file for several slides: the regions of one slide are somewhere else on another.

    Raises:
        InputError: `roi` is a file, and there are several slides.
    """
    if roi is not None and n_slides > 1 and not Path(roi).is_dir():
        raise InputError(
            f"--roi {roi}: a file holds the regions of one slide, but there are {n_slides} slides; name a folder with a "
            f"file <slide>{SUFFIX} for each"
        )


def roi_file(roi: Path, slide: Path) -> Path:
    """Return the file with the regions of a slide.

    Args:
        roi: The file itself, or a folder that holds `<slide>.geojson`, with or without the slide's suffix.
        slide: Path of the slide.

    Raises:
        SlideError: The folder holds no file of this slide (state `no_roi`).
    """
    if not roi.is_dir():
        return roi
    candidates = [roi / f"{name}{SUFFIX}" for name in (slide.stem, slide.name)]
    for path in candidates:
        if path.is_file():
            return path
    raise SlideError("no_roi", f"{slide}: --roi {roi} holds no {candidates[0].name}; add it, or leave the slide out")


def roi_digest(roi: Path, slide: Path) -> str:
    """SHA-256 of the file with the regions of a slide.

    Raises:
        SlideError: There is no such file (state `no_roi`), or it cannot be read (`bad_roi`).
    """
    path = roi_file(roi, slide)
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise SlideError("bad_roi", f"{slide}: --roi {path}: cannot be read ({error.strerror or error})") from error


def read_roi(roi: Path, slide: Slide) -> Roi:
    """Read the regions of a slide.

    Args:
        roi: As in `roi_file`.
        slide: The open slide.

    Raises:
        SlideError: The file is missing (state `no_roi`), holds no usable region (`bad_roi`), or its regions lie outside
            the slide (`roi_outside`).
    """
    import shapely

    path, digest = roi_file(roi, slide.path), roi_digest(roi, slide.path)
    try:
        drawn = read_areas(path)
    except InputError as error:
        raise SlideError("bad_roi", f"{slide.path}: --roi {error}") from error
    corner = np.array((slide.bounds.left, slide.bounds.top))
    area = shapely.transform(drawn, lambda pixels: pixels + corner)
    if area.intersection(shapely.box(0, 0, *slide.dimensions)).area == 0:
        left, top, right, bottom = (f"{value:,.0f}" for value in drawn.bounds)
        width, height = slide.bounds.size
        raise SlideError(
            "roi_outside",
            f"{slide.path}: --roi {path}: its regions lie at x {left} to {right} and y {top} to {bottom}, outside the "
            f"slide of {width:,} × {height:,} pixels; give the file that was drawn on this slide",
        )
    return Roi(path, digest, area)


def roi_mask(roi: Roi, shape: tuple[int, ...], step: float) -> NDArray[np.bool_]:
    """Mark the pixels of a mask whose centres lie within the regions.

    Args:
        roi: The regions.
        shape: (H, W) of the mask, which begins at the slide's origin.
        step: Side of a pixel of the mask in pixels of the slide's finest level.

    Returns:
        (H, W) bool.
    """
    import shapely

    mask = np.zeros(shape, bool)
    left, top, right, bottom = (value / step for value in roi.area.bounds)
    columns = slice(max(0, math.floor(left)), min(shape[1], math.ceil(right)))
    first, last = max(0, math.floor(top)), min(shape[0], math.ceil(bottom))
    x = (np.arange(columns.start, columns.stop) + 0.5) * step
    shapely.prepare(roi.area)
    for row in range(first, last, _ROWS):
        y = (np.arange(row, min(row + _ROWS, last)) + 0.5) * step
        mask[row : row + len(y), columns] = shapely.contains_xy(roi.area, x[None, :], y[:, None])
    return mask
