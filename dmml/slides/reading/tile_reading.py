"""Lays out slides and reads their tiles, for one reader."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from dmml.slides.slide_error import SlideError
from dmml.slides.stains.colour_map import ColourMap
from dmml.slides.storage.lost_storage import STATE, StorageProbe, storage_lost, with_retries
from dmml.slides.tiling.layout import Layout, SlideRequest, lay_out
from dmml.slides.tiling.tile_groups import TileGroup, read_tile_group
from dmml.slides.wsi.slide import Slide

_KEPT_PX = 8_000_000
"""Slides of up to this many pixels stay open after they were laid out, since all that was decoded is still cached"""
_MAX_OPEN = 3
"""Slides that one reader keeps open: the one whose tiles it reads, and small ones that it has laid out for later"""


_MAY_BE_LOST = (STATE, "missing", "unopenable")
"""States behind which storage may hide; that of a tile that cannot be decoded was asked when it was read"""
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class TileBatch:
    """The tiles of a group that were read."""

    magnification: np.ndarray
    """(n,) int"""
    row: np.ndarray
    """(n,) int, row of the tile at its magnification"""
    pixels: np.ndarray
    """(n, tile_px, tile_px, 3) uint8"""
    n_unreadable: int
    """Number of tiles that cannot be decoded"""


class SlideSource:
    """Opens slides for one reader, which reads from one slide after the other, and lays out the next ones meanwhile."""

    def __init__(self) -> None:
        self._slides: dict[tuple[Path, float | None], Slide] = {}
        self._colours: tuple[SlideRequest, ColourMap] | None = None

    def check(self, request: SlideRequest) -> str | None:
        """Check that a slide opens and is fine enough, and return its DICOM series; None for other formats.

        Raises:
            SlideError: The slide cannot be used.
        """

        def attempt() -> str | None:
            with Slide(request.path, request.mpp) as slide:
                slide.check_scale(request.magnifications)
                return slide.series

        return self._with_retries(request, attempt)

    def lay_out(self, request: SlideRequest) -> Layout:
        """Find the tissue of a slide and lay tiles on it.

        Raises:
            SlideError: The slide cannot be used.
        """

        def attempt() -> Layout:
            slide = self._open(request)
            slide.check_scale(request.magnifications)
            return lay_out(slide, request)

        try:
            layout = self._with_retries(request, attempt)
        except BaseException:
            self._close(request)
            raise
        if math.prod(layout.attributes["dimensions"]) > _KEPT_PX:
            self._close(request)
        return layout

    def read(self, request: SlideRequest, group: TileGroup) -> TileBatch:
        """Read the tiles of a group, normalised if asked; those that cannot be decoded are left out and counted.

        Raises:
            SlideError: The slide cannot be used any more.
        """
        return self._with_retries(request, lambda: self._read(request, group))

    def _read(self, request: SlideRequest, group: TileGroup) -> TileBatch:
        slide, colours = self._open(request), self._colour_map(request)
        side = request.tile_px
        pixels = np.empty((len(group.row) + len(group.child_row), side, side, 3), np.uint8)
        magnifications: list[int] = []
        rows: list[int] = []
        for magnification, row, tile in read_tile_group(slide, request.magnifications, group, side):
            if tile is not None:
                pixels[len(rows)] = tile if colours is None else colours(tile)
                magnifications.append(magnification)
                rows.append(row)
        n_unreadable = len(pixels) - len(rows)
        return TileBatch(
            np.array(magnifications, np.int64), np.array(rows, np.int64), pixels[: len(rows)], n_unreadable
        )

    def is_reachable(self, request: SlideRequest) -> bool:
        """Whether the storage of a slide answers."""
        try:
            with open(request.path, "rb") as file:
                return bool(file.read(1))
        except OSError:
            return False

    def _with_retries(self, request: SlideRequest, attempt: Callable[[], Answer]) -> Answer:
        """Return what `attempt` returns; as long as the slide's storage does not answer, open the slide again later."""

        def checked_attempt() -> Answer:
            try:
                return attempt()
            except (SlideError, OSError) as error:
                if isinstance(error, SlideError) and (
                    error.state not in _MAY_BE_LOST or (error.state == "missing" and not request.is_listed)
                ):
                    raise
                self._close(request)
                if not (isinstance(error, SlideError) and error.state == STATE):
                    StorageProbe(request.path).check(error)
                if isinstance(error, SlideError):
                    raise
                reason = (
                    f"{request.path}: cannot be read ({error.strerror or error}); check the file and its permissions"
                )
                raise SlideError("unreadable", reason) from error

        return with_retries(checked_attempt)

    def close(self) -> None:
        """Close all slides."""
        for slide in self._slides.values():
            slide.close()
        self._slides, self._colours = {}, None

    def _open(self, request: SlideRequest) -> Slide:
        """Return the slide, which stays open for its tiles; of too many, the one not used for longest is closed."""
        key = (request.path, request.mpp)
        slide = self._slides.pop(key, None)
        if slide is None:
            _check_unchanged(request)
            slide = Slide(request.path, request.mpp)
        slide.levels.exclude(request.damaged_levels)
        self._slides[key] = slide
        if len(self._slides) > _MAX_OPEN:
            self._slides.pop(next(iter(self._slides))).close()
        return slide

    def _close(self, request: SlideRequest) -> None:
        if (slide := self._slides.pop((request.path, request.mpp), None)) is not None:
            slide.close()

    def _colour_map(self, request: SlideRequest) -> ColourMap | None:
        """Return the normalisation of the slide's colours, which is computed once for all its tiles."""
        if request.stain_normalization is None or request.slide_stains is None:
            return None
        if self._colours is None or self._colours[0] != request:
            target = request.stain_normalization.target_stains
            self._colours = request, ColourMap(request.slide_stains, target)
        return self._colours[1]


def _check_unchanged(request: SlideRequest) -> None:
    """Refuse to read tiles from another file than the one on which they were laid.

    Raises:
        SlideError: State `storage_lost`.
    """
    if request.laid_out_on is None:
        return
    status = os.stat(request.path)
    if (status.st_size, status.st_mtime_ns) != request.laid_out_on:
        raise storage_lost(request.path, "the file has changed while it was read")
