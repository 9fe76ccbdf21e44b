"""Readers that work while the encoder does: processes, each with a thread that waits for it, or a single thread.

A process can crash in a decoder, or hang on a network disk, without ending the run: the slide that it was reading is
given up with a reason, and another process takes its place.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

from dmml.errors import reason_of
from dmml.slides.reading.reader_process import ReaderFailed, ReaderProcess
from dmml.slides.reading.tile_reading import SlideSource, TileBatch, TileGroup
from dmml.slides.slide_error import SlideError
from dmml.slides.tiling.layout import Layout, SlideRequest

TIMEOUT_S = 900.0
"""Seconds after which a reading process that does not answer is ended; no group of tiles takes so long"""
Answer = TypeVar("Answer")


class ReaderPool:
    """Calls the methods of `SlideSource` in the background.

    Args:
        processes: Number of reading processes; 0 means one thread of this process.
        timeout: Seconds after which a process that does not answer is ended.
    """

    def __init__(self, processes: int = 0, timeout: float = TIMEOUT_S):
        self.processes = processes if os.name == "posix" else 0  # pipes can be inherited only there
        self.timeout = timeout
        self.n_readers = max(1, self.processes)
        self._threads = ThreadPoolExecutor(self.n_readers, thread_name_prefix="tile-reader")
        self._of_thread = threading.local()
        self._readers: list[SlideSource | ReaderProcess] = []

    def __enter__(self) -> ReaderPool:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def start(self) -> None:
        """Start the processes now, while something else is being loaded."""
        barrier = threading.Barrier(self.n_readers)

        def begin() -> None:
            try:
                self._reader()
            finally:  # a reader that could not start must not leave the others waiting for it
                barrier.wait()

        for _ in range(self.n_readers):
            self._threads.submit(begin)

    def check(self, request: SlideRequest) -> Future[str | None]:
        """See `SlideSource.check`; the future raises `SlideError` if the slide cannot be used."""
        return self._submit(SlideSource.check, request)

    def lay_out(self, request: SlideRequest) -> Future[Layout]:
        """See `SlideSource.lay_out`; the future raises `SlideError` if the slide cannot be used."""
        return self._submit(SlideSource.lay_out, request)

    def read(self, request: SlideRequest, group: TileGroup) -> Future[TileBatch]:
        """See `SlideSource.read`; the future raises `SlideError` if the slide cannot be used."""
        return self._submit(SlideSource.read, request, group)

    def close(self) -> None:
        """End all readers and drop unanswered requests."""
        self._threads.shutdown(wait=not self.processes, cancel_futures=True)
        for reader in self._readers:
            reader.close()
        self._threads.shutdown(wait=True)

    def _submit(self, method: Callable[..., Answer], request: SlideRequest, *arguments: object) -> Future[Answer]:
        return self._threads.submit(self._answer, method, request, arguments)

    def _reader(self) -> SlideSource | ReaderProcess:
        """Return the reader of this thread, which is started if there is none."""
        if getattr(self._of_thread, "reader", None) is None:
            self._of_thread.reader = ReaderProcess() if self.processes else SlideSource()
            self._readers.append(self._of_thread.reader)
        reader: SlideSource | ReaderProcess = self._of_thread.reader
        return reader

    def _answer(self, method: Callable[..., Answer], request: SlideRequest, arguments: tuple[object, ...]) -> Answer:
        """Call a method of `SlideSource` with the reader of this thread."""
        try:
            reader = self._reader()
        except OSError as error:
            reason = (
                f"{request.path}: no process could be started to read it ({reason_of(error)}); give fewer --readers"
            )
            raise SlideError("reader_died", reason) from error
        if isinstance(reader, SlideSource):
            try:
                return method(reader, request, *arguments)
            except SlideError:
                raise
            except Exception as error:  # whatever a decoder raises concerns only this slide; the next one is still read
                raise SlideError("unreadable", f"{request.path}: {reason_of(error)}") from error
        try:
            return reader.call(method, request, arguments, self.timeout)
        except ReaderFailed as error:
            self._of_thread.reader = None
            raise SlideError(
                error.state, f"{request.path}: the process that read it {error}; check the file, or convert it"
            ) from error
