"""Where the tiles of a page of a TIFF lie in the picture and in the file, and a cache of decoded tiles."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import numpy as np

from dmml.slides.wsi.plain_image import MAX_PLAIN_PX
from dmml.slides.wsi.tiff_pages import Page

_WIDTH, _HEIGHT, _OFFSETS, _LENGTHS = 322, 323, 324, 325
_CACHE_BYTES = 32 * 2**20
"""As much as OpenSlide keeps of decoded tiles; 10 megapixels"""
Decoded = TypeVar("Decoded")


class TiledPage:
    """The arrangement of the tiles of one page.

    Args:
        page: A tiled page.

    Attributes:
        tile: (width, height) of a tile, pixels.
        grid: Number of tiles across and down.
        offsets: (n,) position of each tile's bytes in the file, row by row, plane by plane.
        lengths: (n,) number of these bytes; 0 for a tile that the file leaves out.

    Raises:
        ValueError: Its tiles are empty or too large.
    """

    def __init__(self, page: Page):
        self.tile = (int(page.tags[_WIDTH]), int(page.tags[_HEIGHT]))
        if min(self.tile) < 1 or math.prod(self.tile) > MAX_PLAIN_PX:
            raise ValueError(f"{page} has tiles of {self.tile[0]} × {self.tile[1]} px")
        self.grid = (math.ceil(page.size[0] / self.tile[0]), math.ceil(page.size[1] / self.tile[1]))
        self.offsets, self.lengths = (
            np.atleast_1d(page.tags.get(tag, ())).astype(np.int64) for tag in (_OFFSETS, _LENGTHS)
        )

    def tiles_in(self, left: int, top: int, width: int, height: int) -> Iterator[tuple[int, int, int]]:
        """Yield (index, left, top) of the tiles that a region touches, in pixels of the page, row by row."""
        across, down = self.tile
        for row in range(max(top // down, 0), min(math.ceil((top + height) / down), self.grid[1])):
            for column in range(max(left // across, 0), min(math.ceil((left + width) / across), self.grid[0])):
                yield row * self.grid[0] + column, column * across, row * down


class TileCache(Generic[Decoded]):
    """Decoded tiles of all levels, since neighbouring regions share them; the one unused for longest is dropped first."""

    def __init__(self) -> None:
        self._tiles: OrderedDict[tuple[int, int], Decoded] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tiles)

    def get(self, key: tuple[int, int], page: TiledPage, decode: Callable[[], Decoded | None]) -> Decoded | None:
        """Return the tile of a page by its level and index, decoded if it is not kept; None if it cannot be decoded."""
        if key not in self._tiles:
            decoded = decode()
            if decoded is None:
                return None
            self._tiles[key] = decoded
            while len(self) > 1 and len(self) * math.prod(page.tile) * 3 > _CACHE_BYTES:
                self._tiles.popitem(last=False)
        self._tiles.move_to_end(key)
        return self._tiles[key]

    def clear(self) -> None:
        """Drop all tiles."""
        self._tiles.clear()
