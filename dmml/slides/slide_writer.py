"""Writes finished slides into the store beside the encoder, one at a time."""

from __future__ import annotations

import errno
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from dmml.errors import InputError
from dmml.slides.mpp import SlideError

if TYPE_CHECKING:
    from dmml.slides.stream import EncodedSlide
    from dmml.store import FeatureStore

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class SlideWriter:
    """Writes in one thread; an error comes out at the next call.

    Args:
        open_store: Opens the store, making it where there is none. A new store is made with the first slide that has
            features, so that input of which nothing can be used leaves none.
        written: Called with each slide that is on the disk.
    """

    def __init__(self, open_store: Callable[[], FeatureStore], written: Callable[[EncodedSlide], None]):
        self._open, self._written = open_store, written
        self.store: FeatureStore | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="slide-writer")
        self._pending: tuple[EncodedSlide, Future] | None = None

    def write(self, slide: EncodedSlide) -> None:
        """Begin to write a slide, when the one before is on the disk.

        Raises:
            SlideError: The disk is full (state `disk_full`).
            InputError: The place cannot be written for another reason.
        """
        self.finish()
        try:
            self.store = self.store or self._open()
        except OSError as error:
            raise _refused(error, slide, "the store") from error
        arguments = (slide.request.path.stem, slide.bags, slide.attributes, slide.layout.thumbnail)
        pictures = {"tissue": slide.layout.mask}
        self._pending = slide, self._thread.submit(self.store.write, *arguments, pictures=pictures, durable=True)

    def finish(self) -> None:
        """Wait for the last slide."""
        if self._pending is None:
            return
        (slide, future), self._pending = self._pending, None
        try:
            future.result()
        except OSError as error:
            raise _refused(error, slide, self.store.path) from error
        self._written(slide)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=True)


def _refused(error: OSError, slide: EncodedSlide, store: str) -> SlideError | InputError:
    reason = error.strerror or " ".join(str(error).split())
    if error.errno in _FULL:
        text = f"{slide.request.path}: the disk is full ({reason}); free some and run the same command again"
        return SlideError("disk_full", text)
    where = f" ({error.filename})" if error.filename else ""
    return InputError(f"--out: {store} cannot be written{where}: {reason}; check the path and its rights")
