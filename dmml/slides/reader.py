"""Opens a slide and reads it in µm: no level, no downsample and no objective power leaves this file."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dmml.errors import reason_of
from dmml.slides.grid import pixel_um
from dmml.slides.mpp import Scale, SlideError, check_given, resolve_mpp

PLAIN_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
PLAIN_LIMIT = 20_000 * 20_000
"""Pixels up to which a plain image is read: it has to be held in memory whole"""
COARSEST = 1.25
"""A slide is refused where its pixels are larger than wanted by more than this: what was not scanned is not made up"""
_TOLERANCE = 1.01
_WHOLE = 1e-3
"""Pixels by which a place may miss a whole pixel and still be read as one"""
_BLOCK, _SMALLEST_BLOCK = 2048, 128
MOST_UNREADABLE = 0.2
"""Share of a slide that may fail to decode before it is refused"""


class _PlainImage:
    """A single-level image behind the few calls of OpenSlide that the reader needs."""

    def __init__(self, path: Path):
        # Our own limit, checked before a pixel is decoded, takes the place of Pillow's warning.
        Image.MAX_IMAGE_PIXELS = None
        with warnings.catch_warnings(action="ignore"):
            self._image = Image.open(path)
            _check_whole(self._image, path)
        if math.prod(self._image.size) > PLAIN_LIMIT:
            raise ValueError(f"{self._image.size} pixels without a pyramid; convert it to a tiled TIFF")
        self.dimensions = self._image.size
        self.level_dimensions = (self._image.size,)
        self.level_downsamples = (1.0,)
        self.properties: dict[str, str] = {}
        self._loaded = False

    def read_region(self, location: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
        if not self._loaded:
            self._image = _on_white(self._image)
            self._loaded = True
        return self._image.crop((*location, location[0] + size[0], location[1] + size[1]))

    def close(self) -> None:
        self._image.close()


class Slide:
    """A slide, read by µm. Usable as a context manager; `read` may be called from any one thread at a time.

    Args:
        path: Any file that OpenSlide reads, or a plain image if `mpp` is given.
        mpp: µm per pixel, used only where the slide tells none.

    Attributes:
        dimensions: (width, height) in pixels of the finest level.
        mpp: µm per pixel of the finest level.
        mpp_source: Property that told it.
        reader: `openslide:<vendor>` or `pillow`.
        unreadable_um2: Area of the last `overview` that could not be decoded, µm².

    Raises:
        SlideError: Missing, cannot be opened, no mpp, or pixels that are not square.
    """

    def __init__(self, path: str | Path, mpp: float | None = None):
        self.path, self.unreadable_um2 = Path(path), 0.0
        if mpp is not None:
            check_given(mpp)
        if not self.path.exists():
            raise SlideError("missing", f"{self.path}: no such file; check the path")
        self._handle = self._open(mpp)
        try:
            scale = self._scale(mpp)
        except SlideError:
            self.close()
            raise
        self.mpp, self.mpp_source = scale.mpp, scale.source
        self.dimensions: tuple[int, int] = self._handle.dimensions

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._handle.close()

    @property
    def size_um(self) -> tuple[float, float]:
        """Width and height, µm."""
        return self.dimensions[0] * self.mpp, self.dimensions[1] * self.mpp

    @property
    def series(self) -> str | None:
        """Id of the DICOM series, of which every file opens the same slide; None for other formats."""
        return self._handle.properties.get("dicom.SeriesInstanceUID")

    def check_scale(self, magnifications: Sequence[int]) -> None:
        """Refuse a slide that was scanned too coarsely for the finest magnification.

        Raises:
            SlideError: State `too_coarse`.
        """
        finest = max(magnifications)
        if self.mpp > COARSEST * pixel_um(finest):
            usable = [m for m in (5, 10, 20) if self.mpp <= COARSEST * pixel_um(m)]
            hint = f"--magnifications {usable[-1]}" if usable else "a finer scan"
            raise SlideError(
                "too_coarse",
                f"{self.path}: scanned at {self.mpp:.3g} µm/px, too coarse for {finest}x ({pixel_um(finest):g} µm/px); use {hint}",
            )

    def read(self, x_um: float, y_um: float, width: int, height: int, mpp: float) -> np.ndarray:
        """Read a rectangle, area-resampled from the nearest level that is at least as fine.

        Args:
            x_um: Left edge, µm from the slide's origin; the place is kept to a fraction of a pixel.
            y_um: Upper edge.
            width: Pixels wanted.
            height: Pixels wanted.
            mpp: µm per pixel wanted.

        Returns:
            (height, width, 3) uint8; what lies outside the slide is white.

        Raises:
            SlideError: The file cannot be decoded there (state `unreadable`).
        """
        level, step = self._level(mpp)  # step: µm per pixel of the level
        box = [value / step for value in (x_um, y_um, x_um + width * mpp, y_um + height * mpp)]
        if self._is_whole(level, box, width, height):
            return np.asarray(self._region(level, round(box[0]), round(box[1]), width, height)[0])
        # Area means by a power of two, on the grid that a pyramid's level would have, so that a slide gives the same
        # pixels whether or not it has such a level. The filter does the rest, below a factor of two.
        factor = 2 ** max(0, int(math.log2(mpp / step) + _WHOLE))
        margin = math.ceil(2 * mpp / step / factor) + 1  # what the filter sees beyond the box
        left, top = ((math.floor(value / factor) - margin) * factor for value in box[:2])
        right, bottom = ((math.ceil(value / factor) + margin) * factor for value in box[2:])
        region, (left, top) = self._region(level, left, top, right - left, bottom - top)
        box = [(value - corner) / factor for value, corner in zip(box, (left, top, left, top), strict=True)]
        return np.asarray(region.reduce(factor).resize((width, height), Image.Resampling.BICUBIC, box=tuple(box)))

    def overview(self, mpp: float) -> np.ndarray:
        """The whole slide at a coarse scale, read block by block so that memory does not grow with a missing pyramid.

        A place that cannot be decoded stays white, and counts in `unreadable_um2`.

        Returns:
            (H, W, 3) uint8 with H = ceil(height in µm / mpp), W likewise.

        Raises:
            SlideError: More than a fifth of the slide cannot be decoded.
        """
        width, height = (max(1, math.ceil(um / mpp - 1e-6)) for um in self.size_um)
        _, step = self._level(mpp)
        side = max(1, int(_BLOCK * step / mpp))
        picture = np.full((height, width, 3), 255, np.uint8)
        blocks = [(left, top, side) for top in range(0, height, side) for left in range(0, width, side)][::-1]
        lost = 0
        while blocks:
            left, top, side = blocks.pop()
            h, w = min(side, height - top), min(side, width - left)
            if h <= 0 or w <= 0:
                continue
            try:
                picture[top : top + h, left : left + w] = self.read(left * mpp, top * mpp, w, h, mpp)
            except SlideError:
                half = side // 2
                if half * mpp / step < _SMALLEST_BLOCK:
                    lost += h * w
                    if lost > MOST_UNREADABLE * width * height:
                        raise
                else:
                    half = -(-side // 2)
                    blocks += [(left + x, top + y, half) for y in (half, 0) for x in (half, 0)]
        self.unreadable_um2 = lost * mpp**2
        return picture

    def _level(self, mpp: float) -> tuple[int, float]:
        """The coarsest level that is at least as fine as `mpp`, and its µm/px; the finest if none is."""
        # Not OpenSlide's own downsamples, which average both axes after rounding: pyramids round their sizes down.
        width = self.dimensions[0]
        steps = [self.mpp * round(width / w * 64) / 64 for w, _ in self._handle.level_dimensions]
        fine = [i for i, step in enumerate(steps) if step <= mpp * _TOLERANCE]
        level = max(fine, key=lambda i: steps[i]) if fine else 0
        return level, steps[level]

    def _is_whole(self, level: int, box: list[float], width: int, height: int) -> bool:
        """Whether a box of a level is so many of its own pixels, which then need no resampling."""
        left, top = round(box[0]), round(box[1])
        whole = (left, top, left + width, top + height)
        ratio = self._handle.level_downsamples[level]
        return all(abs(a - b) < _WHOLE for a, b in zip(box, whole, strict=True)) and all(
            abs(round(corner * ratio) / ratio - corner) < _WHOLE for corner in (left, top)
        )

    def _region(
        self, level: int, left: int, top: int, width: int, height: int
    ) -> tuple[Image.Image, tuple[float, float]]:
        """Pixels of a level on white, and the place of their corner in that level, which is not quite what was asked."""
        across, down = self._handle.level_dimensions[level]
        # OpenSlide lays regions that begin before the slide's origin up to a pixel off, so it is asked for none.
        x, y = max(left, 0), max(top, 0)
        inside = (min(left + width, across) - x, min(top + height, down) - y)
        if min(inside) <= 0:
            return Image.new("RGB", (width, height), "white"), (left, top)
        # The corner is given in pixels of level 0 and divided by OpenSlide's own downsample: rounding it shifts a
        # coarse level by a fraction of its pixel, and the caller's box is laid on what was really read.
        ratio = self._handle.level_downsamples[level]
        corner = (round(x * ratio), round(y * ratio))
        try:
            region = self._handle.read_region(corner, level, inside)
        except Exception as error:
            # OpenSlide answers every later call with the same error; only a new handle reads on.
            self._handle.close()
            self._handle = self._open(self.mpp)
            raise SlideError(
                "unreadable", f"{self.path}: cannot be decoded ({reason_of(error)}); fetch it again"
            ) from error
        place = (left + corner[0] / ratio - x, top + corner[1] / ratio - y)
        opaque = region.mode == "RGB" or region.getchannel("A").getextrema()[0] == 255
        if opaque and inside == (width, height):
            return region.convert("RGB"), place
        white = Image.new("RGB", (width, height), "white")
        white.paste(region, (x - left, y - top), mask=None if opaque else region.getchannel("A"))
        return white, place

    def _open(self, mpp: float | None):
        import openslide

        try:
            handle = openslide.OpenSlide(self.path)
            self.reader = f"openslide:{handle.properties.get('openslide.vendor', 'unknown')}"
            return handle
        except openslide.OpenSlideUnsupportedFormatError as error:
            if self.path.suffix.lower() not in PLAIN_SUFFIXES:
                raise SlideError(
                    "unopenable", f"{self.path}: OpenSlide does not know this format; convert it to a tiled TIFF"
                ) from error
        except Exception as error:
            raise SlideError(
                "unopenable", f"{self.path}: OpenSlide cannot open it ({reason_of(error)}); fetch or convert it again"
            ) from error
        return self._open_plain(mpp)

    def _open_plain(self, mpp: float | None) -> _PlainImage:
        try:
            handle = _PlainImage(self.path)
        except Exception as error:
            raise SlideError(
                "unopenable",
                f"{self.path}: neither OpenSlide nor Pillow can open it ({reason_of(error)}); is the download whole?",
            ) from error
        if mpp is None:
            handle.close()
            raise SlideError(
                "no_mpp",
                f"{self.path}: a plain image does not tell its µm per pixel; give it with --mpp, e.g. --mpp 0.5",
            )
        self.reader = "pillow"
        return handle

    def _scale(self, given: float | None) -> Scale:
        return resolve_mpp(str(self.path), self._handle.properties, given)


def _check_whole(image: Image.Image, path: Path) -> None:
    """Refuse a TIFF that ends before its data, which Pillow would only find out pixel by pixel."""
    tags = getattr(image, "tag_v2", {})
    for offsets, sizes in ((324, 325), (273, 279)):  # of tiles, of strips
        where, size = (np.atleast_1d(tags.get(tag, 0)) for tag in (offsets, sizes))
        if len(where) == len(size) and int((where + size).max()) > path.stat().st_size:
            raise ValueError("it ends before its data")


def _on_white(image: Image.Image) -> Image.Image:
    """As RGB; what is transparent shows white, as where a slide was not scanned."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white
