"""Decodes the JPEG tiles of one page of a TIFF."""

from __future__ import annotations

import math
from typing import BinaryIO

import numpy as np
import simplejpeg

from dmml.slides.storage.lost_storage import lost_errno
from dmml.slides.wsi.tiff_pages import Page
from dmml.slides.wsi.tiled_page import TiledPage

_BITS, _COMPRESSION, _COLOURS, _CHANNELS, _PLANES = 258, 259, 262, 277, 284
_WIDTH, _HEIGHT, _TABLES = 322, 323, 347
_JPEG, _RGB, _YCBCR = 7, 2, 6
_START, _END = b"\xff\xd8", b"\xff\xd9"
_STORED_AS_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64" + bytes(5)
"""A marker by which decoders take three channels for red, green and blue, which otherwise only the TIFF states"""
_MAX_TILE_PX = 2048**2
_MAX_BYTES_PER_PX = 8
"""More than JPEG needs for noise; a longer tile is damaged"""


class JpegLevel(TiledPage):
    """The tiles of a page, which are JPEG pictures in colour.

    Args:
        page: A page for which `is_readable` holds.
    """

    def __init__(self, page: Page):
        super().__init__(page)
        tables = bytes(page.tags.get(_TABLES, _START + _END))
        colours = _STORED_AS_RGB if page.tags.get(_COLOURS) == _RGB else b""
        self._beginning = _START + colours + tables.removeprefix(_START).removesuffix(_END)

    @staticmethod
    def is_readable(page: Page) -> bool:
        """Whether the tags of a page describe such tiles."""
        tags = page.tags
        if not page.is_tiled or tags.get(_COMPRESSION) != _JPEG or tags.get(_COLOURS) not in (_RGB, _YCBCR):
            return False
        if tags.get(_CHANNELS) != 3 or tags.get(_PLANES, 1) != 1 or tags.get(_BITS) != (8, 8, 8):
            return False
        if not 0 < int(tags[_WIDTH]) * int(tags.get(_HEIGHT, 0)) <= _MAX_TILE_PX:
            return False
        level = JpegLevel(page)
        return len(level.offsets) == len(level.lengths) == math.prod(level.grid)

    def decode(self, file: BinaryIO, index: int) -> np.ndarray | None:
        """Decode a tile to (tile height, tile width, 3) uint8; None if it is left out or damaged in any way.

        Raises:
            OSError: The storage of the file does not answer.
        """
        length = int(self.lengths[index])
        if not 0 < length <= _MAX_BYTES_PER_PX * self.tile[0] * self.tile[1] + len(self._beginning):
            return None
        try:
            file.seek(int(self.offsets[index]))
            data = self._beginning + file.read(length).removeprefix(_START)
            # The header is looked at first: like a damaged length, it might ask for gigabytes.
            if simplejpeg.decode_jpeg_header(data)[:2] != self.tile[::-1]:
                return None
            pixels: np.ndarray = simplejpeg.decode_jpeg(data)
        except ValueError:
            return None
        except OSError as error:
            if lost_errno(error):
                raise
            return None  # a damaged offset
        return pixels
