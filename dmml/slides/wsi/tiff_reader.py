"""Reads the tiles of any page of a TIFF, for slides that are not on the page where OpenSlide expects them."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from dmml.slides.wsi.levels import ratio_of
from dmml.slides.wsi.tiff_pages import Page
from dmml.slides.wsi.tiled_page import TileCache, TiledPage

_DECODING_TAGS = (258, 259, 262, 266, 277, 284, 317, 320, 338, 339, 347, 529, 530, 532)
"""Tags that are needed to decode a tile: bits, compression, colours, planes, predictor, tables"""
_COMPRESSION, _SAMPLES, _PLANES, _WIDTH, _HEIGHT = 259, 277, 284, 322, 323
_OFFSETS, _SIZES = 324, 325
_BITS, _SAMPLE_FORMAT = 258, 339
_LIBTIFF_METHODS = (1, 5, 7, 8, 32773, 32946, 50000)
"""None, LZW, JPEG, deflate (two numbers), PackBits, Zstandard"""
_JPEG_2000_YCBCR, _JPEG_2000 = 33003, (33003, 33005, 34712)


class TiffPageReader:
    """A page of a TIFF and its smaller versions, with the few methods of OpenSlide that `Slide` needs.

    Args:
        path: The TIFF.
        slide: The page of the slide, which is tiled.
        pages: All pages; tiled ones that are marked as reduced become levels, from large to small.

    Raises:
        ValueError: The file ends before the page's data, or the page is stored in a way that cannot be read.
    """

    def __init__(self, path: Path, slide: Page, pages: Sequence[Page]):
        smaller = [page for page in pages if page.is_tiled and page.is_reduced and page.pixels < slide.pixels]
        self._levels = [_Tiled(page) for page in (slide, *sorted(smaller, key=lambda page: -page.pixels))]
        self._levels[0].check(path)
        self._file = open(path, "rb")
        self._tiles: TileCache[Image.Image] = TileCache()
        self.dimensions = slide.size
        self.properties: dict[str, str] = {}
        self.level_dimensions = tuple(level.size for level in self._levels)
        self.level_downsamples = tuple(
            ratio_of(slide.size, size) or slide.size[0] / size[0] for size in self.level_dimensions
        )

    def read_region(self, location: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
        """Return RGB pixels of a level; `location` is in pixels of the finest one. Unscanned areas are white."""
        left, top = (round(corner / self.level_downsamples[level]) for corner in location)
        picture = Image.new("RGB", size, "white")
        tiled = self._levels[level]
        for index, x, y in tiled.tiles_in(left, top, *size):
            tile = self._tiles.get((level, index), tiled, partial(tiled.decode, self._file, index))
            if tile is not None:
                picture.paste(tile, (x - left, y - top))
        return picture

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._tiles.clear()


class _Tiled(TiledPage):
    """The tiles of one page, and the decoding of each."""

    def __init__(self, page: Page):
        super().__init__(page)
        tags = page.tags
        self.page, self.size = page, page.size
        self._channels = int(tags.get(_SAMPLES, 1))
        self._planes = self._channels if tags.get(_PLANES) == 2 else 1
        self._compression = int(tags.get(_COMPRESSION, 1))

    def check(self, path: Path) -> None:
        """Refuse a page that cannot be read at all.

        Raises:
            ValueError: The message states the reason.
        """
        if self._compression not in (*_LIBTIFF_METHODS, *_JPEG_2000):
            raise ValueError(f"it is compressed by TIFF method {self._compression}, which is not supported")
        bits = np.atleast_1d(self.page.tags.get(_BITS, 1))
        if not set(bits.tolist()) <= {1, 8, 16} or 3 in np.atleast_1d(self.page.tags.get(_SAMPLE_FORMAT, 1)):
            raise ValueError(f"it has {bits[0]} bits per channel; only whole numbers of 8 or 16 bits can be read")
        if self._channels not in (1, 3, 4):
            raise ValueError(f"it has {self._channels} channels; a slide has red, green and blue")
        expected = math.prod(self.grid) * self._planes
        if not len(self.offsets) == len(self.lengths) == expected:
            raise ValueError(f"it lists {len(self.offsets)} tiles instead of {expected}")
        if int((self.offsets + self.lengths).max(initial=0)) > path.stat().st_size:
            raise ValueError("it ends before its data")

    def _pieces(self, file: io.BufferedReader, index: int) -> list[bytes] | None:
        """Read the compressed bytes of a tile, one piece per plane; None if the file leaves the tile out."""
        numbers = range(index, index + self._planes * math.prod(self.grid), math.prod(self.grid))
        if not all(self.lengths[number] for number in numbers):
            return None
        pieces = []
        for number in numbers:
            file.seek(int(self.offsets[number]))
            pieces.append(file.read(int(self.lengths[number])))
        return pieces

    def decode(self, file: io.BufferedReader, index: int) -> Image.Image | None:
        """Decode a whole tile to RGB, which the caller crops at the edge of the page; None if the file leaves it out."""
        pieces = self._pieces(file, index)
        if pieces is None:
            return None
        if self._compression in _JPEG_2000:
            picture: Image.Image = Image.open(io.BytesIO(pieces[0]))
            if self._compression == _JPEG_2000_YCBCR:
                picture = Image.merge("YCbCr", picture.split()[:3])
            return picture.convert("RGB")
        return _on_white(Image.open(io.BytesIO(self._as_tiff(pieces))))

    def _as_tiff(self, pieces: list[bytes]) -> bytes:
        """Wrap this one tile in a TIFF, which Pillow decodes with libtiff whatever the compression."""
        order = self.page.header[:2]
        tags = ImageFileDirectory_v2(order + (b"*\0" if order == b"II" else b"\0*") + bytes(4))
        for tag in _DECODING_TAGS:
            if tag in self.page.tags:
                tags.tagtype[tag] = self.page.tags.tagtype[tag]
                tags[tag] = self.page.tags[tag]
        tags[256], tags[257] = tags[_WIDTH], tags[_HEIGHT] = self.tile
        tags.tagtype[_OFFSETS] = tags.tagtype[_SIZES] = 4
        tags[_SIZES] = tuple(len(piece) for piece in pieces)
        tags[_OFFSETS] = (0,) * len(pieces)
        start = 8 + len(tags.tobytes(8))
        ends = np.cumsum([start, *(len(piece) for piece in pieces)])
        tags[_OFFSETS] = tuple(int(end) for end in ends[:-1])
        header = order + struct.pack("<HL" if order == b"II" else ">HL", 42, 8)
        return b"".join((header, tags.tobytes(8), *pieces))


def _on_white(image: Image.Image) -> Image.Image:
    """Convert an image to RGB; transparent pixels become white, like parts of a slide that were not scanned."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white
