"""Reads slides of JPEG tiles without OpenSlide's compositing, which takes five times as long as decoding them."""

from __future__ import annotations

import contextlib
import ctypes
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import openslide
from PIL import Image

from dmml.slides.wsi.jpeg_level import JpegLevel
from dmml.slides.wsi.tiff_pages import Page, read_pages
from dmml.slides.wsi.tiled_page import TileCache

VENDORS = ("generic-tiff", "aperio")
"""OpenSlide's names of formats in which a level is a page of a TIFF and its tiles lie edge to edge"""
_WHOLE_PX = 1e-6
"""Fraction of a pixel by which a position may deviate from a whole pixel, by rounding"""


class Closable(Protocol):
    """Anything that can be closed."""

    def close(self) -> None:
        """Close it."""


class JpegReader:
    """An open slide whose tiles are decoded directly wherever this gives OpenSlide's pixels, bit for bit.

    Of each level, two tiles are first decoded in both ways; if they differ in any pixel, OpenSlide reads the level.
    It also reads tiles that are left out or damaged, whose decoder it reports, and positions between pixels.

    Args:
        handle: The slide, opened by OpenSlide.
        path: The same file.

    Attributes:
        dimensions: (width, height) in pixels.
        level_dimensions: (width, height) of every level, the finest first.
        level_downsamples: How many times smaller each level is than the finest.
        properties: What the file states about itself.
    """

    def __init__(self, handle: openslide.OpenSlide, path: Path):
        self._handle, self._path = handle, path
        # OpenSlide asks its library anew at every access.
        self.dimensions: tuple[int, int] = handle.dimensions
        self.level_dimensions: Sequence[tuple[int, int]] = handle.level_dimensions
        self.level_downsamples: Sequence[float] = handle.level_downsamples
        self.properties: Mapping[str, str] = handle.properties
        self._file = open(path, "rb")
        self._pages: list[Page] | None = None
        self._levels: dict[int, JpegLevel | None] = {}
        self._tiles: TileCache[np.ndarray] = TileCache()

    def read_region(self, location: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
        """Read pixels of a level as RGB or RGBA; `location` is in pixels of the finest level."""
        pixels = self.read_pixels(location, level, size)
        return self._handle.read_region(location, level, size) if pixels is None else Image.fromarray(pixels)

    def read_pixels(self, location: tuple[int, int], level: int, size: tuple[int, int]) -> np.ndarray | None:
        """Read pixels as (height, width, 3) uint8, without a copy by Pillow; None if OpenSlide has to read them."""
        corner = [position / self.level_downsamples[level] for position in location]
        left, top = map(round, corner)
        right, bottom = left + size[0], top + size[1]
        width, height = self.level_dimensions[level]
        is_whole = max(abs(left - corner[0]), abs(top - corner[1])) < _WHOLE_PX
        if not is_whole or min(left, top) < 0 or right > width or bottom > height:
            return None
        if level not in self._levels:
            self._levels[level] = self._checked_level(level)
        if (tiles := self._levels[level]) is None:
            return None
        picture = np.empty((size[1], size[0], 3), np.uint8)
        for index, x, y in tiles.tiles_in(left, top, *size):
            tile = self._tiles.get((level, index), tiles, partial(tiles.decode, self._file, index))
            if tile is None:
                return None
            part = tile[max(top - y, 0) : bottom - y, max(left - x, 0) : right - x]
            y, x = max(y - top, 0), max(x - left, 0)
            picture[y : y + part.shape[0], x : x + part.shape[1]] = part
        return picture

    def close(self) -> None:
        """Close the file."""
        close_handle(self._handle)
        self._file.close()
        self._tiles.clear()

    def _checked_level(self, level: int) -> JpegLevel | None:
        """Return the tiles of a level; None if they cannot be decoded directly with OpenSlide's result."""
        size, ratio = self.level_dimensions[level], self.level_downsamples[level]
        if ratio != round(ratio):
            return None
        if self._pages is None:
            try:
                self._pages = read_pages(self._path)
            except (ValueError, OSError):
                self._pages = []
        pages = [page for page in self._pages if page.is_tiled and page.size == size]
        if len(pages) != 1 or not JpegLevel.is_readable(pages[0]):
            return None
        tiles = JpegLevel(pages[0])
        return tiles if self._agrees(level, tiles, _sample(tiles)) else None

    def _agrees(self, level: int, tiles: JpegLevel, indices: Iterable[int]) -> bool:
        """Whether OpenSlide shows the same pixels in some tiles, all of them opaque."""
        ratio, (width, height) = self.level_downsamples[level], self.level_dimensions[level]
        n_compared = 0
        for index in indices:
            row, column = divmod(index, tiles.grid[0])
            left, top = column * tiles.tile[0], row * tiles.tile[1]
            size = (min(tiles.tile[0], width - left), min(tiles.tile[1], height - top))
            pixels = tiles.decode(self._file, index)
            if pixels is None:
                continue
            try:
                region = np.asarray(self._handle.read_region((round(left * ratio), round(top * ratio)), level, size))
            except openslide.OpenSlideError:
                self._handle.close()  # after an error, a handle answers every later call with the same error
                self._handle = openslide.OpenSlide(self._path)
                return False
            if (region[..., 3] != 255).any() or not np.array_equal(region[..., :3], pixels[: size[1], : size[0]]):
                return False
            n_compared += 1
        return n_compared > 0


def close_handle(handle: Closable) -> None:
    """Close a slide that may be closed already, which OpenSlide itself refuses."""
    with contextlib.suppress(ctypes.ArgumentError):
        handle.close()


def _sample(tiles: JpegLevel) -> list[int]:
    """Indices of the tile with the most detail and of the last one, which may extend beyond the slide."""
    return sorted({int(tiles.lengths.argmax()), math.prod(tiles.grid) - 1})
