"""A slide that the viewer can show: its file or a thumbnail, and functions that read its tiles when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmml.slides.geojson.frame import SlideFrame
from dmml.slides.wsi.bounds import Bounds
from dmml.viewer.tile_set import TileSet


@dataclass(frozen=True)
class Picture:
    """A thumbnail of a whole slide, (H, W, 3) uint8, and its µm per pixel."""

    pixels: NDArray[np.uint8]
    mpp: float


@dataclass(frozen=True)
class ViewedSlide:
    """One slide of an answer, a run or a store.

    Attributes:
        name: Id of the slide.
        group: Patient, or cohort and patient; empty where the slide's id says it.
        lines: What the model answers, in sentences.
        use: What the answer may be used for; empty if the model answers nothing.
        record: What was recorded of the slide's file when it was read: name, fingerprint, µm per pixel, size, bounds.
        path: The slide's file; None if it is not available.
        read_tiles: Reads the tiles, one set for each magnification, the coarsest first.
        read_thumbnail: Reads the thumbnail; None if there is none.
        warnings: Why the answer may not hold for the slide, in sentences.
    """

    name: str
    group: str
    lines: Sequence[str]
    use: str
    record: Mapping[str, Any]
    path: Path | None
    read_tiles: Callable[[], list[TileSet]]
    read_thumbnail: Callable[[], Picture | None]
    warnings: Sequence[str] = ()

    def frame(self, thumbnail: Picture | None, tiles: Sequence[TileSet]) -> SlideFrame:
        """Return the image in which tiles are placed when the slide's file is not available.

        It is what was recorded of the slide, else the thumbnail, else the area of the tiles.
        """
        if "mpp" in self.record and "dimensions" in self.record:
            return SlideFrame.of(self.record)
        if thumbnail is not None:
            height, width = thumbnail.pixels.shape[:2]
            return SlideFrame(thumbnail.mpp, Bounds(0, 0, width, height))
        ends = [(each.corner.max(axis=0) + each.tile_um) for each in tiles if len(each)]
        width, height = np.ceil(np.max(ends, axis=0)).astype(int).tolist() if ends else (1, 1)
        return SlideFrame(1.0, Bounds(0, 0, width, height))
