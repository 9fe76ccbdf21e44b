"""Reports the progress of an extraction: a bar on a terminal, one line per minute in the log of a job."""

from __future__ import annotations

import logging
import time
from types import TracebackType

from tqdm import tqdm

from dmml.progress_bars import hide_bar

INTERVAL_S = 60.0
"""Seconds between two lines if there is no terminal"""
_LOG = logging.getLogger(__name__)


class Progress:
    """Shows how many slides are done, tiles per second, and the time left.

    Args:
        slides: Number of slides to be done.
        interval: Seconds between two lines if stderr is not a terminal.
    """

    def __init__(self, slides: int, interval: float = INTERVAL_S):
        self.slides, self.interval = slides, interval
        self._bar = tqdm(total=slides, desc="slides", unit="slide", disable=hide_bar())
        self._start = self._last_line = time.monotonic()
        self._slides_done = self._tiles_encoded = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()

    def tile(self, slide: str, done: int, resumed: int, total: int) -> None:
        """Report that `done` of a slide's `total` tiles are encoded, `resumed` of them by an earlier run."""
        speed = (self._tiles_encoded + done - resumed) / max(time.monotonic() - self._start, 1e-9)
        if not self._bar.disable:
            self._bar.set_postfix_str(f"{slide[:24]} {done:,}/{total:,}, {speed:.0f} tiles/s", refresh=False)
            self._bar.update(0)
        elif time.monotonic() - self._last_line >= self.interval:
            self._last_line = time.monotonic()
            self._log_line(self._slides_done + done / max(total, 1), speed)

    def slide(self, tiles: int) -> None:
        """Report that a slide is done, for which this many tiles were encoded."""
        self._slides_done += 1
        self._tiles_encoded += tiles
        self._bar.update(1)

    def _log_line(self, slides: float, speed: float) -> None:
        left = (time.monotonic() - self._start) / max(slides, 1e-9) * (self.slides - slides)
        _LOG.info(
            "slides: %s of %s, %.0f tiles/s, about %s left",
            f"{self._slides_done:,}",
            f"{self.slides:,}",
            speed,
            duration(left),
        )


def duration(seconds: float) -> str:
    """Format a duration: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
