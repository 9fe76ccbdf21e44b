"""Shows any slide that dmml reads as a deep zoom image: small tiles at powers of two, cropped to the slide's bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import openslide
from openslide.deepzoom import DeepZoomGenerator
from PIL import Image

from dmml.slides.wsi.slide import Slide

TILE_PX, OVERLAP_PX = 254, 1
"""Side of a tile, and the pixels by which it extends over its neighbours; OpenSlide recommends these"""
_OVERVIEW_PX = 2048
"""Largest side of the overview, in pixels"""


def deep_zoom(slide: openslide.AbstractSlide) -> DeepZoomGenerator:
    """Return the deep zoom image of a slide; its finest level has the size of the slide's bounds."""
    return DeepZoomGenerator(slide, TILE_PX, OVERLAP_PX, limit_bounds=True)


class DeepZoomSlide(openslide.AbstractSlide):
    """A slide with the interface of OpenSlide that deep zoom needs, whichever of dmml's readers opens it.

    Levels that do not show the slide are not used. If no sound level is small, an overview is made when it is first
    needed: otherwise a slide without a pyramid would be decoded as a whole, in memory, for a single tile. There are no
    associated images, and of the properties only the bounds.

    Args:
        slide: The slide, which the caller closes.
    """

    def __init__(self, slide: Slide):
        super().__init__()
        self._slide = slide
        self._sizes = [tuple(size) for size in slide.handle.level_dimensions]
        self._ratios = [float(ratio) for ratio in slide.handle.level_downsamples]
        self._overview: np.ndarray | None = None
        self._overview_ratio = self._needed_overview()
        if self._overview_ratio is not None:
            self._sizes.append(tuple(math.ceil(side / self._overview_ratio) for side in slide.dimensions))
            self._ratios.append(float(self._overview_ratio))

    def _needed_overview(self) -> int | None:
        """How many times smaller the overview is than the slide; None if a sound level is as small."""
        ratio = 2 ** max(0, math.ceil(math.log2(max(self._slide.dimensions) / _OVERVIEW_PX)))
        _, coarsest = self._slide.levels.coarsest(math.inf)
        return ratio if ratio > 2 * coarsest else None

    def close(self) -> None:
        """Do nothing: the caller closes the slide."""

    @classmethod
    def detect_format(cls, filename: str | bytes) -> str | None:  # type: ignore[override]
        """Return None: files are opened by `Slide`."""
        return None

    @property
    def dimensions(self) -> tuple[int, int]:
        """(width, height) of the finest level."""
        return self._slide.dimensions

    @property
    def level_count(self) -> int:
        """Number of levels, with the overview."""
        return len(self._sizes)

    @property
    def level_dimensions(self) -> tuple[tuple[int, int], ...]:
        """(width, height) of every level, the finest first, the overview last."""
        return tuple(self._sizes)  # type: ignore[arg-type]

    @property
    def level_downsamples(self) -> tuple[float, ...]:
        """How many times smaller each level is than the finest."""
        return tuple(self._ratios)

    @property
    def properties(self) -> Mapping[str, str]:
        """The bounds alone: patients' names, dates and paths are in others."""
        names = (*DeepZoomGenerator.BOUNDS_OFFSET_PROPS, *DeepZoomGenerator.BOUNDS_SIZE_PROPS)
        return dict(zip(names, map(str, self._slide.bounds.plain), strict=True))

    @property
    def associated_images(self) -> Mapping[str, Image.Image]:
        """None: labels and macro images may show the patient's name."""
        return {}

    def get_best_level_for_downsample(self, downsample: float) -> int:
        """Return the coarsest sound level that is at least as fine as wanted."""
        if self._overview_ratio is not None and self._overview_ratio <= downsample:
            return len(self._sizes) - 1
        return self._slide.levels.coarsest(downsample)[0]

    def read_region(self, location: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
        """Read pixels of a level as RGBA; `location` is in pixels of the finest level.

        Raises:
            SlideError: This part of the file cannot be decoded.
        """
        if self._overview_ratio is not None and level == len(self._sizes) - 1:
            return self._read_overview(location, size)
        return Image.fromarray(self._slide.read_level(location, level, size)).convert("RGBA")

    def _read_overview(self, location: tuple[int, int], size: tuple[int, int]) -> Image.Image:
        ratio = self._overview_ratio or 1
        if self._overview is None:
            self._overview = self._slide.overview(ratio * self._slide.mpp, from_finest=False)
        left, top = (round(corner / ratio) for corner in location)
        part = self._overview[top : top + size[1], left : left + size[0]]
        picture = Image.new("RGBA", size, "white")
        picture.paste(Image.fromarray(part), (0, 0))
        return picture
