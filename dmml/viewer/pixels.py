"""The pixels of a slide as deep zoom tiles and as squares: from its file, or from its thumbnail."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
import openslide
from PIL import Image

from dmml.slides.geojson.frame import SlideFrame
from dmml.slides.wsi.deep_zoom import DeepZoomSlide, deep_zoom
from dmml.slides.wsi.slide import Slide
from dmml.viewer.viewed_slide import Picture

_PAPER = 236
"""Grey of a slide of which there is no picture at all"""
_MAX_BLANK_PX = 512


class Pixels(Protocol):
    """A picture of what QuPath shows of a slide. Only one thread at a time may use it.

    Attributes:
        frame: The image in which tiles are placed.
        kind: `slide`, `thumbnail`, or `none` if there is no picture.
    """

    frame: SlideFrame
    kind: str

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the finest level of the deep zoom image, in its pixels."""

    @property
    def extent(self) -> tuple[int, int]:
        """(width, height) of what the deep zoom image covers, in pixels of the frame."""

    def tile(self, level: int, column: int, row: int) -> Image.Image:
        """Return a tile of the deep zoom image; ValueError if there is none."""

    def square(self, left: float, top: float, side: float, pixels: int) -> Image.Image:
        """Return a square of the frame, in its pixels, as a picture of `pixels` × `pixels`."""

    def close(self) -> None:
        """Close the file."""


class SlidePixels:
    """The pixels of a slide's file, through every level that shows the slide."""

    kind = "slide"

    def __init__(self, slide: Slide):
        self._slide = slide
        self.frame = SlideFrame(slide.mpp, slide.bounds)
        self._zoom = deep_zoom(DeepZoomSlide(slide))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the finest level."""
        return self._zoom.level_dimensions[-1]

    @property
    def extent(self) -> tuple[int, int]:
        """The same, which OpenSlide's rounding makes a pixel larger than the bounds of some slides."""
        return self.size

    def tile(self, level: int, column: int, row: int) -> Image.Image:
        """Return a tile; ValueError if there is none, SlideError if it cannot be decoded."""
        return self._zoom.get_tile(level, (column, row))

    def square(self, left: float, top: float, side: float, pixels: int) -> Image.Image:
        """Return a square of the frame."""
        x, y = self.frame.micrometres(np.array([left, top]))
        return Image.fromarray(self._slide.read(x, y, pixels, pixels, side * self.frame.mpp / pixels))

    def close(self) -> None:
        """Close the file."""
        self._slide.close()


class PicturePixels:
    """The pixels of a thumbnail of the whole slide, cropped to the frame; grey paper without a thumbnail."""

    def __init__(self, picture: Picture | None, frame: SlideFrame):
        self.kind, self.frame = "none" if picture is None else "thumbnail", frame
        self._image = _blank(frame) if picture is None else _cropped(picture, frame)
        self._zoom = deep_zoom(openslide.ImageSlide(self._image))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the thumbnail."""
        return self._image.size

    @property
    def extent(self) -> tuple[int, int]:
        """The whole frame, which has more pixels than a thumbnail."""
        return self.frame.bounds.size

    def tile(self, level: int, column: int, row: int) -> Image.Image:
        """Return a tile; ValueError if there is none."""
        return self._zoom.get_tile(level, (column, row))

    def square(self, left: float, top: float, side: float, pixels: int) -> Image.Image:
        """Return a square of the frame, enlarged."""
        x, y = self._image.width / self.frame.bounds.width, self._image.height / self.frame.bounds.height
        box = (left * x, top * y, (left + side) * x, (top + side) * y)
        return self._image.transform((pixels, pixels), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)

    def close(self) -> None:
        """Do nothing: no file is open."""


def _cropped(picture: Picture, frame: SlideFrame) -> Image.Image:
    image, bounds = Image.fromarray(picture.pixels), frame.bounds
    scale = frame.mpp / picture.mpp
    left, top = bounds.left * scale, bounds.top * scale
    right, bottom = left + bounds.width * scale, top + bounds.height * scale
    size = (max(1, math.ceil(bounds.width * scale - 1e-6)), max(1, math.ceil(bounds.height * scale - 1e-6)))
    if (left, top) == (0, 0) and size == image.size:
        return image
    return image.transform(size, Image.Transform.EXTENT, (left, top, right, bottom), Image.Resampling.BILINEAR)


def _blank(frame: SlideFrame) -> Image.Image:
    scale = min(1.0, _MAX_BLANK_PX / max(frame.bounds.size))
    width, height = (max(1, round(side * scale)) for side in frame.bounds.size)
    return Image.new("RGB", (width, height), (_PAPER,) * 3)


OpenPixels = Callable[[], Pixels]
"""Opens the pixels of a slide when they are first needed"""
