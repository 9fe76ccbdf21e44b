"""Images without a pyramid, which Pillow reads completely."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from dmml.slides.wsi.tiff_pages import Page

PLAIN_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
PLAIN_LIMIT = 20_000 * 20_000
"""Largest plain image that is read, in pixels: all of it has to be held in memory"""


class PlainImage:
    """A single-level image with the few methods of OpenSlide that `Slide` needs.

    Args:
        path: The image.
        page: Page of a TIFF; None for other formats.

    Raises:
        ValueError, OSError: It cannot be opened, ends before its data, or is too large to be held in memory.
    """

    def __init__(self, path: Path, page: Page | None = None):
        # The limit is checked before a pixel is decoded, and replaces Pillow's warning.
        Image.MAX_IMAGE_PIXELS = None
        with warnings.catch_warnings(action="ignore"):
            self._image = Image.open(path)
            if page is not None:
                self._image.seek(page.number - 1)
            _check_whole(self._image, path)
        if math.prod(self._image.size) > PLAIN_LIMIT:
            raise ValueError(f"{self._image.size} pixels without a pyramid; convert it to a tiled TIFF")
        self.dimensions = self._image.size
        self.level_dimensions = (self._image.size,)
        self.level_downsamples = (1.0,)
        self._loaded = False

    def read_region(self, location: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
        """Return RGB pixels; the only level is 0."""
        if not self._loaded:
            self._image = on_white(self._image)
            self._loaded = True
        return self._image.crop((*location, location[0] + size[0], location[1] + size[1]))

    def close(self) -> None:
        """Close the file."""
        self._image.close()


def _check_whole(image: Image.Image, path: Path) -> None:
    """Refuse a TIFF that ends before its data, which Pillow would only notice during decoding."""
    tags = getattr(image, "tag_v2", {})
    for offsets, sizes in ((324, 325), (273, 279)):  # of tiles, of strips
        where, size = (np.atleast_1d(tags.get(tag, 0)) for tag in (offsets, sizes))
        if len(where) == len(size) and int((where + size).max()) > path.stat().st_size:
            raise ValueError("it ends before its data")


def on_white(image: Image.Image) -> Image.Image:
    """Convert an image to RGB; transparent pixels become white, like parts of a slide that were not scanned."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white
