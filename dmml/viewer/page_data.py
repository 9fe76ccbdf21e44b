"""What the page asks for: the list of slides, a slide's layers, the numbers of its tiles, and pictures.

Answers hold the ids of slides, positions, numbers, classes, and pixels of the slide. Nothing of a slide's metadata and no
path is in them: names, dates and labels may be in the metadata, and the patient's name in a path.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from dmml.slides.colour_scale import ATTENTION_MAP, CONTRIBUTION_MAP, colour_table
from dmml.slides.wsi.deep_zoom import OVERLAP_PX, TILE_PX
from dmml.slides.wsi.slide import Slide
from dmml.viewer.open_path import Collection
from dmml.viewer.pixels import PicturePixels, Pixels, SlidePixels
from dmml.viewer.tile_set import TileSet

_MAX_OPEN = 4
"""Number of slides that are held open, with their tiles"""
_SQUARE_PX = 160
"""Side of the picture of a tile, pixels"""
_JPEG_QUALITY = 85
_PICTURES = {
    "slide": None,
    "thumbnail": "The slide's file was not found, so its thumbnail is shown. Give the folder of the slides with --slides.",
    "none": "Neither the slide's file nor a thumbnail was found, so the tiles lie on paper. Give the folder of the slides "
    "with --slides.",
}
"""{kind of picture: what the page says about it}"""


class PageData:
    """Reads what the page asks for, and holds a few slides open. Safe to use from several threads.

    Args:
        collection: What is viewed.
    """

    def __init__(self, collection: Collection):
        self._collection = collection
        self._open: OrderedDict[int, tuple[Pixels, list[TileSet]]] = OrderedDict()
        self._lock = threading.Lock()

    def slides(self) -> dict[str, Any]:
        """The title, the slides with their groups, and the colour maps."""
        slides = [{"name": slide.name, "group": slide.group} for slide in self._collection.slides]
        return {"title": self._collection.title, "slides": slides, "colours": _colours()}

    def slide(self, index: int) -> dict[str, Any]:
        """The size of a slide, its layers, and what the model answers.

        Raises:
            IndexError: There is no such slide.
            SlideError: Its file cannot be opened.
        """
        slide = self._collection.slides[index]
        with self._lock:
            pixels, tile_sets = self._opened(index)
        note = _PICTURES[pixels.kind]
        return {
            "name": slide.name,
            "lines": list(slide.lines),
            "warnings": list(slide.warnings),
            "use": slide.use,
            "note": note,
            "width": pixels.extent[0],
            "height": pixels.extent[1],
            "mpp": pixels.frame.mpp,
            "picture": {"width": pixels.size[0], "height": pixels.size[1], "tileSize": TILE_PX, "overlap": OVERLAP_PX},
            "magnifications": [_described(tiles, pixels.frame.mpp) for tiles in tile_sets],
        }

    def numbers(self, index: int, magnification: int) -> bytes:
        """Little-endian float32 of N tiles: N left edges, N upper edges, columns, rows, classes, then each measurement.

        Raises:
            LookupError: There is no such slide, or it has no tiles at the magnification.
        """
        with self._lock:
            pixels, tile_sets = self._opened(index)
        tiles = _of_magnification(tile_sets, magnification)
        corner = pixels.frame.pixels(tiles.corner)
        columns = [*corner.T, *tiles.cell.T, tiles.class_index, *(each.values for each in tiles.measurements)]
        return np.concatenate([np.asarray(column, "<f4") for column in columns]).tobytes()

    def deep_zoom_tile(self, index: int, level: int, column: int, row: int) -> bytes:
        """A tile of a slide's deep zoom image, as JPEG.

        Raises:
            LookupError: There is no such slide.
            ValueError: There is no such tile.
            SlideError: It cannot be decoded.
        """
        with self._lock:
            picture = self._opened(index)[0].tile(level, column, row)
        return _jpeg(picture)

    def square(self, index: int, magnification: int, row: int) -> bytes:
        """The picture of one of the model's tiles, as JPEG; raises as `numbers` and `deep_zoom_tile`."""
        with self._lock:
            pixels, tile_sets = self._opened(index)
            tiles = _of_magnification(tile_sets, magnification)
            left, top = pixels.frame.pixels(tiles.corner[row]).tolist()
            picture = pixels.square(left, top, tiles.tile_um / pixels.frame.mpp, _SQUARE_PX)
        return _jpeg(picture)

    def _opened(self, index: int) -> tuple[Pixels, list[TileSet]]:
        """Open a slide, and close the one that was used least recently; the caller holds the lock."""
        if index not in self._open:
            slide = self._collection.slides[index]
            tile_sets = slide.read_tiles()
            if slide.path is not None:
                pixels: Pixels = SlidePixels(Slide(slide.path, slide.record.get("mpp")))
            else:
                thumbnail = slide.read_thumbnail()
                pixels = PicturePixels(thumbnail, slide.frame(thumbnail, tile_sets))
            self._open[index] = (pixels, tile_sets)
            if len(self._open) > _MAX_OPEN:
                self._open.popitem(last=False)[1][0].close()
        self._open.move_to_end(index)
        return self._open[index]

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            for pixels, _ in self._open.values():
                pixels.close()
            self._open.clear()


def _of_magnification(tile_sets: list[TileSet], magnification: int) -> TileSet:
    for tiles in tile_sets:
        if tiles.magnification == magnification:
            return tiles
    raise LookupError(magnification)


def _described(tiles: TileSet, mpp: float) -> dict[str, Any]:
    measurements = [
        {"name": each.name, "limit": each.limit, "diverging": each.diverging} for each in tiles.measurements
    ]
    counts = np.bincount(tiles.class_index[tiles.class_index >= 0], minlength=len(tiles.classes)).tolist()
    classes = [
        {"name": each.name, "colour": each.colour, "n": n} for each, n in zip(tiles.classes, counts, strict=True)
    ]
    return {
        "magnification": tiles.magnification,
        "side": tiles.tile_um / mpp,
        "n": len(tiles),
        "measurements": measurements,
        "classes": classes,
    }


@lru_cache
def _colours() -> dict[str, list[list[int]]]:
    maps = {"diverging": CONTRIBUTION_MAP, "sequential": ATTENTION_MAP}
    return {kind: colour_table(name).tolist() for kind, name in maps.items()}


def _jpeg(picture: Image.Image) -> bytes:
    """Encode the pixels alone: a picture that was read from a file may carry its comment, and a slide's colour profile."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(picture.convert("RGB"))).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()
