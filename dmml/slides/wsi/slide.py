"""Opens a slide and reads it in µm, so that no other module deals with levels, downsamples or objective powers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image

from dmml.errors import reason_of
from dmml.slides.slide_error import SlideError
from dmml.slides.storage.lost_storage import StorageProbe
from dmml.slides.wsi.block_means import block_means
from dmml.slides.wsi.bounds import bounds_of
from dmml.slides.wsi.jpeg_reader import JpegReader, close_handle
from dmml.slides.wsi.levels import MAX_UNREADABLE_SHARE, Levels
from dmml.slides.wsi.mpp import check_mpp, pixel_um
from dmml.slides.wsi.opening import open_slide
from dmml.slides.wsi.overview.read_blocks import ReadBlock, read_blocks

MAX_ENLARGEMENT = 1.25
"""A slide is refused if its pixels are more than this many times larger than wanted: unscanned detail is not made up"""
SMALL_SLIDE_PX = 64_000_000
"""Slides of up to this many pixels are decoded completely at their finest level to find tissue, in 1 or 2 seconds"""
_TOLERANCE = 1.01
"""How many times coarser than wanted a level may be and still count as fine enough"""
_WHOLE_PX = 1e-3
"""Fraction of a pixel by which a coordinate may deviate from a whole pixel and still be read as one"""
_BLOCK_PX, _MIN_BLOCK_PX = 2048, 128
"""Side of the blocks in which an overview is read, and of those into which a damaged block is divided"""


class Slide:
    """A slide that is read in µm. Usable as a context manager; only one thread at a time may call `read`.

    Args:
        path: Any file that OpenSlide reads, any TIFF, or a plain image if `mpp` is given. In a TIFF without a vendor's
            metadata, the largest tiled page is the slide, even if other pages precede it.
        mpp: µm per pixel, used only if the slide does not state it.

    Attributes:
        dimensions: (width, height) in pixels of the finest level.
        bounds: The scanned part, to which viewers crop the slide; the whole slide if the file does not state it.
        mpp: µm per pixel of the finest level.
        mpp_source: Property from which `mpp` was read.
        reader: `openslide:<vendor>`, `tiff:page <n>` if OpenSlide would read another page, or `pillow`.
        handle: The open file, replaced after an error.
        levels: Which of its levels are sound.
        unreadable_um2: Area of the last `overview` that could not be decoded, µm².

    Raises:
        SlideError: The file is missing, cannot be opened, has no µm per pixel, or its pixels are not square.
    """

    def __init__(self, path: str | Path, mpp: float | None = None):
        self.path, self.unreadable_um2, self._storage = Path(path), 0.0, StorageProbe(Path(path))
        if mpp is not None:
            check_mpp(mpp)
        if not self.path.exists():
            raise SlideError("missing", f"{self.path}: no such file; check the path")
        opened = open_slide(self.path, mpp)
        self.handle, self.reader = opened.handle, opened.reader
        try:
            scale = opened.scale(self.path, mpp)
        except SlideError:
            self.close()
            raise
        self.mpp, self.mpp_source = scale.mpp, scale.source
        self.dimensions: tuple[int, int] = self.handle.dimensions
        self.bounds = bounds_of(opened.properties, self.dimensions)
        self._page_notes, self._series = opened.notes, opened.properties.get("dicom.SeriesInstanceUID")
        self.levels = Levels(self.handle.level_dimensions, self._level_pixels, opened.whole_fractions)

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        close_handle(self.handle)

    @property
    def size_um(self) -> tuple[float, float]:
        """Width and height, µm."""
        return self.dimensions[0] * self.mpp, self.dimensions[1] * self.mpp

    @property
    def notes(self) -> list[str]:
        """Notes for the user: which page was read, and which levels have been rejected so far."""
        return [*self._page_notes, *self.levels.notes]

    @property
    def series(self) -> str | None:
        """Id of the DICOM series, any file of which opens the same slide; None for other formats."""
        return self._series

    def check_scale(self, magnifications: Sequence[int]) -> None:
        """Refuse a slide that was scanned too coarsely for the finest magnification.

        Raises:
            SlideError: State `too_coarse`.
        """
        finest = max(magnifications)
        if self.mpp > MAX_ENLARGEMENT * pixel_um(finest):
            usable = [m for m in (5, 10, 20) if self.mpp <= MAX_ENLARGEMENT * pixel_um(m)]
            hint = f"--magnifications {usable[-1]}" if usable else "a finer scan"
            raise SlideError(
                "too_coarse",
                f"{self.path}: scanned at {self.mpp:.3g} µm/px, too coarse for {finest}x ({pixel_um(finest):g} µm/px); "
                f"use {hint}",
            )

    def read(self, x_um: float, y_um: float, width: int, height: int, mpp: float) -> np.ndarray:
        """Read a rectangle, area-resampled from the coarsest level that is at least as fine as wanted.

        Args:
            x_um: Left edge, µm from the slide's origin; it need not fall on a whole pixel.
            y_um: Upper edge, likewise.
            width: Width of the result, pixels.
            height: Height of the result, pixels.
            mpp: µm per pixel of the result.

        Returns:
            (height, width, 3) uint8; everything outside the slide is white.

        Raises:
            SlideError: This part of the file cannot be decoded (state `unreadable`).
        """
        return self._read(x_um, y_um, width, height, mpp, *self._level(mpp))

    def _read(
        self, x_um: float, y_um: float, width: int, height: int, mpp: float, level: int, step: float
    ) -> np.ndarray:
        """Do what `read` does, from the given level, which has `step` µm per pixel."""
        box = [value / step for value in (x_um, y_um, x_um + width * mpp, y_um + height * mpp)]
        if self._covers_whole_pixels(level, box, width, height):
            return self._region(level, round(box[0]), round(box[1]), width, height)[0]
        # Area means by a power of two, on the grid that a level of the pyramid would have, so that a slide gives the
        # same pixels whether or not it has such a level. The filter does the rest, which is below a factor of two.
        factor = 2 ** max(0, int(math.log2(mpp / step) + _WHOLE_PX))
        margin = math.ceil(2 * mpp / step / factor) + 1  # the filter also uses pixels outside the box
        left, top = ((math.floor(value / factor) - margin) * factor for value in box[:2])
        right, bottom = ((math.ceil(value / factor) + margin) * factor for value in box[2:])
        region, (left, top) = self._region(level, left, top, right - left, bottom - top)
        x0, y0, x1, y1 = ((value - corner) / factor for value, corner in zip(box, (left, top, left, top), strict=True))
        reduced = Image.fromarray(block_means(region, factor))
        return np.asarray(reduced.resize((width, height), Image.Resampling.BICUBIC, box=(x0, y0, x1, y1)))

    def overview(self, mpp: float, from_finest: bool = True) -> np.ndarray:
        """Read the whole slide at a coarse scale, block by block so that a missing pyramid does not cost memory.

        Parts that cannot be decoded stay white and count in `unreadable_um2`. A small slide is read from its finest
        level, so that its tissue and its tiles do not depend on how the other levels were made and compressed. On a
        large slide this would take minutes, so its coarsest sound level is read, which also replaces parts of a small
        slide whose finest level is damaged. If more than a fifth of that coarse level cannot be decoded, the next finer
        sound level is read in its place.

        Args:
            mpp: µm per pixel of the result.
            from_finest: Whether to read a small slide from its finest level; for a picture that is only displayed, the
                coarsest sound level is good enough and takes a fraction of the time.

        Returns:
            (H, W, 3) uint8 with H = ceil(height in µm / mpp), and W likewise.

        Raises:
            SlideError: More than a fifth of the slide cannot be decoded at any level.
        """
        size = (max(1, math.ceil(self.size_um[0] / mpp - 1e-6)), max(1, math.ceil(self.size_um[1] / mpp - 1e-6)))
        is_from_finest = from_finest and math.prod(self.dimensions) <= SMALL_SLIDE_PX
        while True:
            coarse = self._level(mpp)
            level, step = (0, self.mpp) if is_from_finest else coarse
            try:
                picture, n_unreadable = read_blocks(
                    size,
                    max(1, int(_BLOCK_PX * step / mpp)),
                    _MIN_BLOCK_PX * step / mpp,
                    self._block_reader(mpp, level, step),
                    None if coarse[0] == level else self._block_reader(mpp, *coarse),
                )
            except SlideError as error:
                if error.state != "unreadable" or level == 0:
                    raise
                self.ignore_damaged(level, mpp, f"more than {MAX_UNREADABLE_SHARE:.0%} of it")
                continue
            self.unreadable_um2 = n_unreadable * mpp**2
            return picture

    def _block_reader(self, mpp: float, level: int, step: float) -> ReadBlock:
        """Return a function that reads a block of an overview from the given level, which has `step` µm per pixel."""
        return lambda left, top, width, height: self._read(left * mpp, top * mpp, width, height, mpp, level, step)

    def level_for(self, mpp: float) -> int:
        """Number of the level from which `read` reads at this µm per pixel."""
        return self._level(mpp)[0]

    def ignore_damaged(self, level: int, mpp: float, extent: str) -> None:
        """Read from a finer level from now on, since `extent` of this one cannot be decoded; `notes` then says so.

        Args:
            level: The level, which is not the finest one.
            mpp: µm per pixel at which it was read.
            extent: What cannot be decoded, as in `12 of 40 tiles`.
        """
        self.levels.ignore_damaged(level, mpp * _TOLERANCE / self.mpp, extent)

    def _level(self, mpp: float) -> tuple[int, float]:
        """Return the coarsest sound level that is at least as fine as `mpp`, else the finest level, and its µm/px."""
        level, ratio = self.levels.coarsest(mpp * _TOLERANCE / self.mpp)
        return level, self.mpp * ratio

    def compare_levels(self, scales: Sequence[float]) -> None:
        """Check now the levels that `read` would use at these µm per pixel; `notes` then lists the rejected ones."""
        for mpp in scales:
            self._level(mpp)

    def _level_pixels(self, level: int, left: int, top: int, width: int, height: int) -> Image.Image:
        return Image.fromarray(self._region(level, left, top, width, height)[0])

    def _covers_whole_pixels(self, level: int, box: list[float], width: int, height: int) -> bool:
        """Whether a box covers whole pixels of a level one to one, so that it needs no resampling."""
        left, top = round(box[0]), round(box[1])
        rounded = (left, top, left + width, top + height)
        ratio = self.handle.level_downsamples[level]
        return all(abs(a - b) < _WHOLE_PX for a, b in zip(box, rounded, strict=True)) and all(
            abs(round(corner * ratio) / ratio - corner) < _WHOLE_PX for corner in (left, top)
        )

    def _region(
        self, level: int, left: int, top: int, width: int, height: int
    ) -> tuple[np.ndarray, tuple[float, float]]:
        """Read pixels of a level, laid on white.

        Returns:
            (height, width, 3) uint8, and the position of its corner in pixels of the level, which may differ from
            (left, top) by a fraction of a pixel.
        """
        across, down = self.handle.level_dimensions[level]
        # OpenSlide shifts regions that begin before the slide's origin by up to a pixel, so that part is clipped off.
        x, y = max(left, 0), max(top, 0)
        inside = (min(left + width, across) - x, min(top + height, down) - y)
        if min(inside) <= 0:
            return np.full((height, width, 3), 255, np.uint8), (left, top)
        # The corner is given in pixels of level 0 and divided by OpenSlide's own downsample: rounding it shifts a
        # coarse level by a fraction of its pixel, so the caller needs the position that was really read.
        ratio = self.handle.level_downsamples[level]
        corner = (round(x * ratio), round(y * ratio))
        pixels = self.read_level(corner, level, inside)
        position = (left + corner[0] / ratio - x, top + corner[1] / ratio - y)
        if inside == (width, height):
            return pixels, position
        white = np.full((height, width, 3), 255, np.uint8)
        white[y - top : y - top + inside[1], x - left : x - left + inside[0]] = pixels
        return white, position

    def read_level(self, corner: tuple[int, int], level: int, size: tuple[int, int]) -> np.ndarray:
        """Read (height, width, 3) uint8 on white; `corner` is in pixels of the finest level, and `size` in those of `level`.

        Raises:
            SlideError: This part of the file cannot be decoded (state `unreadable`), or the storage of the file does not
                answer (`storage_lost`).
        """
        try:
            return self._decoded(corner, level, size)
        except Exception as error:
            # After an error, OpenSlide answers every later call with the same error; only a new handle can read on.
            self.close()
            self._storage.check(error, is_thorough=True)
            self.handle = open_slide(self.path, self.mpp).handle
            reason = f"{self.path}: cannot be decoded ({reason_of(error)}); fetch the file again"
            raise SlideError("unreadable", reason) from error

    def _decoded(self, corner: tuple[int, int], level: int, size: tuple[int, int]) -> np.ndarray:
        if isinstance(self.handle, JpegReader):
            pixels = self.handle.read_pixels(corner, level, size)
            if pixels is not None:
                return pixels
        region = self.handle.read_region(corner, level, size)
        if region.mode == "RGB" or region.getchannel("A").getextrema()[0] == 255:
            return np.asarray(region.convert("RGB"))
        white = Image.new("RGB", size, "white")
        white.paste(region, mask=region.getchannel("A"))
        return np.asarray(white)
