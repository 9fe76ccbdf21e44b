"""Images without a pyramid, which Pillow reads completely."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import openslide
from PIL import Image

from dmml.slides.wsi.tiff_pages import Page

PLAIN_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
MAX_PLAIN_PX = 20_000 * 20_000
"""Largest plain image that is read, in pixels: all of it has to be held in memory"""


class PlainImage(openslide.ImageSlide):
    """OpenSlide's reader of single-level images, with checks of the file and a choice of the page.

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
            self._opened = Image.open(path)
            if page is not None:
                self._opened.seek(page.number - 1)
            _check_complete(self._opened, path)
        if math.prod(self._opened.size) > MAX_PLAIN_PX:
            raise ValueError(
                f"{' × '.join(map(str, self._opened.size))} pixels without a pyramid are too many; convert it to a tiled TIFF"
            )
        super().__init__(self._opened)

    def close(self) -> None:
        """Close the file, which OpenSlide leaves open if it did not open it itself."""
        super().close()
        self._opened.close()


def _check_complete(image: Image.Image, path: Path) -> None:
    """Refuse a TIFF that ends before its data, which Pillow would only notice during decoding."""
    tags = getattr(image, "tag_v2", {})
    for offset_tag, size_tag in ((324, 325), (273, 279)):  # of tiles, of strips
        offsets, sizes = (np.atleast_1d(tags.get(tag, 0)) for tag in (offset_tag, size_tag))
        if len(offsets) == len(sizes) and int((offsets + sizes).max()) > path.stat().st_size:
            raise ValueError("it ends before its data")
