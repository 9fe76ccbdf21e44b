"""Reports the progress of an extraction: a bar on a terminal, one line per minute in the log of a job."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm

EVERY_S = 60.0
"""Seconds between two lines if there is no terminal"""


class Progress:
    """Shows how many slides are done, tiles per second, and the time left.

    Args:
        slides: Number of slides to be done.
        every: Seconds between two lines if stderr is not a terminal.
    """

    def __init__(self, slides: int, every: float = EVERY_S):
        self.slides, self.every = slides, every
        self._bar = tqdm(total=slides, desc="slides", unit="slide", disable=None)
        self._began = self._told = time.monotonic()
        self._slides = self._tiles = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()

    def tile(self, slide: str, done: int, known: int, total: int) -> None:
        """Report that `done` of a slide's `total` tiles are encoded, `known` of them by an earlier run."""
        speed = (self._tiles + done - known) / max(time.monotonic() - self._began, 1e-9)
        if not self._bar.disable:
            self._bar.set_postfix_str(f"{slide[:24]} {done:,}/{total:,}, {speed:.0f} tiles/s", refresh=False)
            self._bar.update(0)
        elif time.monotonic() - self._told >= self.every:
            self._told = time.monotonic()
            self._line(self._slides + done / max(total, 1), speed)

    def slide(self, tiles: int) -> None:
        """Report that a slide is done, for which this many tiles were encoded."""
        self._slides += 1
        self._tiles += tiles
        self._bar.update(1)

    def _line(self, slides: float, speed: float) -> None:
        left = (time.monotonic() - self._began) / max(slides, 1e-9) * (self.slides - slides)
        print(
            f"slides: {self._slides:,} of {self.slides:,}, {speed:.0f} tiles/s, about {duration(left)} left",
            file=sys.stderr,
            flush=True,
        )


def duration(seconds: float) -> str:
    """Format a duration: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
