"""Writes finished slides into the store while the encoder works."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from dmml.errors import InputError
from dmml.slides.wsi.mpp import SlideError

if TYPE_CHECKING:
    from dmml.slides.extraction.stream import EncodedSlide
    from dmml.store import FeatureStore

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_AT_ONCE = 4
"""Number of slides that are written at the same time: small ones mostly wait for the disk, and can wait together"""
_BYTES = 32 << 20
"""Bytes of features that may be pending together, so that large slides are written singly and memory use stays flat"""


class SlideWriter:
    """Writes slides in threads, each one completely and synchronised to the disk; errors are raised at a later call.

    Args:
        open_store: Opens the store, creating it if necessary. A new store is created with the first slide that has
            features, so that unusable input leaves no store.
        written: Called with each slide that is on the disk, in the order of `write`.
    """

    def __init__(self, open_store: Callable[[], FeatureStore], written: Callable[[EncodedSlide], None]):
        self._open, self._written = open_store, written
        self.store: FeatureStore | None = None
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="slide-writer")
        self._pending: deque[tuple[EncodedSlide, Future]] = deque()

    def write(self, slide: EncodedSlide) -> None:
        """Begin to write a slide, as soon as there is room for it among the pending ones.

        Raises:
            SlideError: The disk is full (state `disk_full`).
            InputError: The store cannot be written for another reason.
        """
        while self._pending and (self._pending[0][1].done() or self._has_enough(slide)):
            self._take()
        try:
            self.store = self.store or self._open()
        except OSError as error:
            raise _refused(error, slide, "the store") from error
        arguments = (slide.request.path.stem, slide.bags, slide.attributes, slide.layout.thumbnail)
        pictures = {"tissue": slide.layout.mask}
        future = self._threads.submit(self.store.write, *arguments, pictures=pictures, durable=True)
        self._pending.append((slide, future))

    def finish(self) -> None:
        """Wait for all slides. Raises the same errors as `write`."""
        while self._pending:
            self._take()

    def close(self) -> None:
        """End the threads. Slides that they still finish writing count as written."""
        self._threads.shutdown(wait=True)
        for slide, future in self._pending:
            if future.exception() is None:
                self._written(slide)
        self._pending.clear()

    def _has_enough(self, slide: EncodedSlide) -> bool:
        return len(self._pending) == _AT_ONCE or sum(_size(s) for s in (slide, *(p[0] for p in self._pending))) > _BYTES

    def _take(self) -> None:
        """Wait for the slide that was begun first."""
        slide, future = self._pending.popleft()
        try:
            future.result()
        except OSError as error:
            raise _refused(error, slide, self.store.path) from error
        self._written(slide)


def _size(slide: EncodedSlide) -> int:
    return sum(bag.features.nbytes for bag in slide.bags.values())


def _refused(error: OSError, slide: EncodedSlide, store: str) -> SlideError | InputError:
    reason = error.strerror or " ".join(str(error).split())
    if error.errno in _FULL:
        text = f"{slide.request.path}: the disk is full ({reason}); free some and run the same command again"
        return SlideError("disk_full", text)
    where = f" ({error.filename})" if error.filename else ""
    return InputError(f"--out: {store} cannot be written{where}: {reason}; check the path and its rights")
