"""Writes finished slides into the store while the encoder works."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from dmml.errors import InputError
from dmml.slides.extraction.encoded_slide import EncodedSlide
from dmml.slides.slide_error import SlideError
from dmml.store import FeatureStore

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MAX_PENDING = 4
"""Number of slides that are written at the same time: small ones mostly wait for the disk, and can wait together"""
_MAX_PENDING_BYTES = 32 << 20
"""Bytes of features that may be pending together, so that large slides are written singly and memory use stays flat"""


class SlideWriter:
    """Writes slides in threads, each one completely and synchronised to the disk; errors are raised at a later call.

    Args:
        open_store: Opens the store, creating it if necessary. A new store is created with the first slide that has
            features, so that unusable input leaves no store.
        on_written: Called with each slide that is on the disk, in the order of `write`.
    """

    def __init__(self, open_store: Callable[[], FeatureStore], on_written: Callable[[EncodedSlide], None]):
        self._open_store, self._on_written = open_store, on_written
        self.store: FeatureStore | None = None
        self._threads = ThreadPoolExecutor(_MAX_PENDING, thread_name_prefix="slide-writer")
        self._pending: deque[tuple[EncodedSlide, FeatureStore, Future[None]]] = deque()

    def write(self, slide: EncodedSlide) -> None:
        """Begin to write a slide, as soon as there is room for it among the pending ones.

        Raises:
            SlideError: The disk is full (state `disk_full`).
            InputError: The store cannot be written for another reason.
        """
        if slide.layout is None:
            raise ValueError(f"{slide.request.path}: has an error instead of features")
        while self._pending and (self._pending[0][2].done() or self._is_busy(slide)):
            self._wait_for_first()
        try:
            store = self.store = self.store or self._open_store()
        except OSError as error:
            raise _write_error(error, slide, "the store") from error
        future = self._threads.submit(
            store.write,
            slide.request.path.stem,
            slide.bags,
            slide.attributes,
            slide.layout.thumbnail,
            pictures={"tissue": slide.layout.mask},
            durable=True,
        )
        self._pending.append((slide, store, future))

    def finish(self) -> None:
        """Wait for all slides. Raises the same errors as `write`."""
        while self._pending:
            self._wait_for_first()

    def close(self) -> None:
        """End the threads. Slides that they still finish writing count as written."""
        self._threads.shutdown(wait=True)
        for slide, _, future in self._pending:
            if future.exception() is None:
                self._on_written(slide)
        self._pending.clear()

    def _is_busy(self, slide: EncodedSlide) -> bool:
        """Whether another slide would be one too many, or too large."""
        pending = [slide, *(pending[0] for pending in self._pending)]
        return len(self._pending) == _MAX_PENDING or sum(map(_size, pending)) > _MAX_PENDING_BYTES

    def _wait_for_first(self) -> None:
        """Wait for the slide that was begun first."""
        slide, store, future = self._pending.popleft()
        try:
            future.result()
        except OSError as error:
            raise _write_error(error, slide, store.path) from error
        self._on_written(slide)


def _size(slide: EncodedSlide) -> int:
    return sum(bag.features.nbytes for bag in slide.bags.values())


def _write_error(error: OSError, slide: EncodedSlide, store: str) -> SlideError | InputError:
    reason = error.strerror or " ".join(str(error).split())
    if error.errno in _DISK_FULL:
        text = f"{slide.request.path}: the disk is full ({reason}); make room and run the same command again"
        return SlideError("disk_full", text)
    file = f" ({error.filename})" if error.filename else ""
    return InputError(f"--out: {store} cannot be written{file}: {reason}; check the path and its permissions")
