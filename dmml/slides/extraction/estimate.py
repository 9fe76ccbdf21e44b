"""Estimates an extraction before it begins: slides, tiles, disk space, hours."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dmml.progress_bars import progress_bar
from dmml.slides.failures import Failure
from dmml.slides.reading.reader_pool import ReaderPool
from dmml.slides.slide_error import SlideError
from dmml.slides.tiling.layout import SlideRequest

if TYPE_CHECKING:
    from dmml.slides.encoders.encoder import Encoder
    from dmml.slides.extraction.job import ExtractionJob

MAX_LAID_OUT = 40
"""Maximum number of slides whose tissue is searched; if there are more, the tiles of the others are extrapolated"""
MAX_DOWNLOADED = 4
"""The same if slides have to be downloaded"""
_BYTES_PER_SLIDE = 600_000
"""Bytes for a slide's pictures and attributes"""


@dataclass
class Estimate:
    """What an extraction would need."""

    slides: int
    laid_out: int
    """Slides whose tiles were counted; equal to `slides` unless there are many"""
    tiles: int
    bytes: int
    free_bytes: int | None
    """None if the store is behind a URL"""
    hours: float
    tiles_per_second: float
    failures: list[Failure]
    """Slides among those laid out that open but cannot be used"""

    def lines(self) -> list[str]:
        """Format the estimate for the user, one statement per line."""
        basis = "" if self.laid_out == self.slides else f" (counted on {self.laid_out} of them)"
        if self.failures:
            basis += f"; {len(self.failures)} of {self.laid_out} give none"
        free = "" if self.free_bytes is None else f", {_size(self.free_bytes)} are free"
        text = [
            f"{self.slides} slides, about {self.tiles:,} tiles{basis}",
            f"disk: {_size(self.bytes)}{free}",
            f"time: {_duration(self.hours)} at {self.tiles_per_second:.0f} tiles per second, measured here with blank tiles",
        ]
        if self.free_bytes is not None and self.bytes > self.free_bytes:
            text.append("NOT ENOUGH DISK SPACE: make room, or name an --out on another disk")
        return text


def estimate(requests: Sequence[SlideRequest], encoder: Encoder, job: ExtractionJob, readers: ReaderPool) -> Estimate:
    """Lay out slides (an evenly spaced selection if there are many) and time the encoder."""
    n_laid_out = min(len(requests), MAX_LAID_OUT if job.staged is None else MAX_DOWNLOADED)
    selected = np.unique(np.linspace(0, len(requests) - 1, n_laid_out).round().astype(int))
    lay_out, out = job.lay_out(readers), job.out
    futures = [lay_out(requests[i]) for i in selected]
    counts, failures = [], []
    for i, future in zip(selected, progress_bar(futures, "finding tissue"), strict=True):
        try:
            counts.append(sum(len(tiles) for tiles in future.result().tiles.values()))
        except SlideError as error:
            counts.append(0)
            failures.append(job.failure(requests[i].path, error))
        job.release(requests[i].path)
    tiles = round(sum(counts) * len(requests) / max(1, len(selected)))
    speed = _tiles_per_second(encoder)
    size = tiles * (2 * encoder.dim + 12) + len(requests) * _BYTES_PER_SLIDE
    free = None if "://" in out else shutil.disk_usage(_nearest_folder(Path(out))).free
    return Estimate(len(requests), len(selected), tiles, size, free, tiles / speed / 3600, speed, failures)


def _tiles_per_second(encoder: Encoder) -> float:
    """Measure how many tiles per second the encoder alone processes."""
    blank = np.zeros((encoder.batch_size, encoder.tile_px, encoder.tile_px, 3), np.uint8)
    encoder(blank)
    start, done = time.perf_counter(), 0
    while done == 0 or (time.perf_counter() - start < 1.0 and done < 50):
        encoder(blank)
        done += 1
    return done * len(blank) / (time.perf_counter() - start)


def _nearest_folder(path: Path) -> Path:
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _size(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"


def _duration(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes" if hours >= 1 / 60 else "under a minute"
