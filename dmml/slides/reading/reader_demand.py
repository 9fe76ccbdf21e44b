"""Adds readers while an encoder waits for pixels, so that their number follows from the machine, its disks and slides."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from dmml.slides.reading.reader_pool import ReaderPool

WINDOW_S = 2.0
"""Seconds over which both kinds of waiting are compared; a new reader needs one of them to start"""
_MAX_WAITING = 0.05
"""Largest share of the time that an encoder may wait for pixels before a reader is added"""
_LOG = logging.getLogger(__name__)


class ReaderDemand:
    """Compares how long a stream waits for pixels with how long it waits for features, and adds readers if needed.

    Args:
        readers: The readers.
    """

    def __init__(self, readers: ReaderPool):
        self._readers = readers
        self._for_pixels = self._for_features = 0.0
        self._start: float | None = None

    @contextmanager
    def waiting_for_pixels(self) -> Iterator[None]:
        """Count the time of the block as waiting for pixels; the first call only starts the clock.

        Before it, the first slide is laid out, and more readers would change nothing.
        """
        start = time.perf_counter()
        yield
        now = time.perf_counter()
        if self._start is None:
            self._start = now
            return
        self._for_pixels += now - start
        if now - self._start >= WINDOW_S:
            self._judge(now)

    @contextmanager
    def waiting_for_features(self) -> Iterator[None]:
        """Count the time of the block as waiting for features."""
        start = time.perf_counter()
        yield
        self._for_features += time.perf_counter() - start

    def _judge(self, now: float) -> None:
        seconds = now - (self._start or now)
        # An encoder that is busy makes the stream wait for features; then more readers would only take its cores.
        is_starved = self._for_pixels > self._for_features + _MAX_WAITING * seconds
        if is_starved and self._readers.add_reader():
            share = self._for_pixels / seconds
            _LOG.debug(
                "the encoder waits for pixels %.0f%% of the time: %d readers", 100 * share, self._readers.n_readers
            )
        self._start, self._for_pixels, self._for_features = now, 0.0, 0.0
