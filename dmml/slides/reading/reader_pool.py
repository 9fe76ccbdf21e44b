"""Readers that work while the encoder does: processes, each with a thread that waits for it, or a single thread.

A process can crash in a decoder, or hang on a network disk, without ending the run: the slide that it was reading is
given up with a reason, and another process takes its place.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from queue import LifoQueue
from types import TracebackType
from typing import TypeVar

from dmml.errors import reason_of
from dmml.slides.reading.reader_process import ReaderFailed, ReaderProcess
from dmml.slides.reading.tile_reading import SlideSource, TileBatch
from dmml.slides.slide_error import SlideError
from dmml.slides.tiling.layout import Layout, SlideRequest
from dmml.slides.tiling.tile_groups import TileGroup
from dmml.usable_cores import usable_cores

TIMEOUT_S = 900.0
"""Seconds after which a reading process that does not answer is ended; no group of tiles takes so long"""
_MAX_AT_START = 8
Answer = TypeVar("Answer")


class ReaderPool:
    """Calls the methods of `SlideSource` in the background.

    Args:
        processes: Number of reading processes; 0 means one thread of this process. None starts one per four cores, at
            most eight, and allows `add_reader` to start one for every core.
        timeout: Seconds after which a process that does not answer is ended.

    Attributes:
        n_readers: Number of readers that may work at the same time.
    """

    def __init__(self, processes: int | None = 0, timeout: float = TIMEOUT_S):
        cores = usable_cores()
        at_start = max(1, min(_MAX_AT_START, cores // 4)) if processes is None else processes
        self.processes = at_start if os.name == "posix" else 0  # pipes can be inherited only there
        self.timeout = timeout
        self.n_readers = max(1, self.processes)
        self._max_readers = max(self.n_readers, cores if processes is None and self.processes else 0)
        self._threads = ThreadPoolExecutor(self._max_readers, thread_name_prefix="tile-reader")
        # The readers that are idle; None stands for one that has not been started. The last one comes first, since it
        # still has its slide open.
        self._idle: LifoQueue[SlideSource | ReaderProcess | None] = LifoQueue()
        for _ in range(self.n_readers):
            self._idle.put(None)
        self._readers: list[SlideSource | ReaderProcess] = []
        self._is_closed = False

    def __enter__(self) -> ReaderPool:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def start(self) -> None:
        """Start the processes now, while something else is being loaded."""
        barrier = threading.Barrier(self.n_readers)

        def begin() -> None:
            reader = self._idle.get()
            try:
                reader = reader or self._new_reader()
            finally:  # a reader that could not start must not leave the others waiting for it
                barrier.wait()
                self._idle.put(reader)

        for _ in range(self.n_readers):
            self._threads.submit(begin)

    def add_reader(self) -> bool:
        """Let one more reader work; False if there are as many as allowed."""
        if self.n_readers == self._max_readers:
            return False
        self.n_readers += 1
        self._idle.put(None)
        return True

    def check(self, request: SlideRequest) -> Future[str | None]:
        """See `SlideSource.check`; the future raises `SlideError` if the slide cannot be used."""
        return self._submit(SlideSource.check, request)

    def lay_out(self, request: SlideRequest) -> Future[Layout]:
        """See `SlideSource.lay_out`; the future raises `SlideError` if the slide cannot be used."""
        return self._submit(SlideSource.lay_out, request)

    def read(self, request: SlideRequest, group: TileGroup) -> Future[TileBatch]:
        """See `SlideSource.read`; the future raises `SlideError` if the slide cannot be used."""
        return self._submit(SlideSource.read, request, group)

    def is_reachable(self, request: SlideRequest) -> bool:
        """See `SlideSource.is_reachable`; storage that hangs does not answer, either."""
        try:
            return self._submit(SlideSource.is_reachable, request).result()
        except SlideError:
            return False

    def close(self) -> None:
        """End all readers and drop unanswered requests."""
        self._is_closed = True
        self._threads.shutdown(wait=not self.processes, cancel_futures=True)
        for reader in self._readers:
            reader.close()
        self._threads.shutdown(wait=True)

    def _submit(self, method: Callable[..., Answer], request: SlideRequest, *arguments: object) -> Future[Answer]:
        return self._threads.submit(self._answer, method, request, arguments)

    def _new_reader(self) -> SlideSource | ReaderProcess:
        reader = ReaderProcess() if self.processes else SlideSource()
        self._readers.append(reader)
        return reader

    def _answer(self, method: Callable[..., Answer], request: SlideRequest, arguments: tuple[object, ...]) -> Answer:
        """Call a method of `SlideSource` with an idle reader."""
        reader = self._idle.get()
        try:
            if self._is_closed:
                raise CancelledError
            try:
                reader = reader or self._new_reader()
            except OSError as error:
                reason = (
                    f"{request.path}: no process could be started to read it ({reason_of(error)}); give fewer --readers"
                )
                raise SlideError("reader_died", reason) from error
            if isinstance(reader, SlideSource):
                return _answer_of_source(reader, method, request, arguments)
            try:
                return reader.call(method, request, arguments, self.timeout)
            except ReaderFailed as error:
                reader = None
                raise SlideError(
                    error.state, f"{request.path}: the process that read it {error}; check the file, or convert it"
                ) from error
        finally:
            self._idle.put(reader)


def _answer_of_source(
    source: SlideSource, method: Callable[..., Answer], request: SlideRequest, arguments: tuple[object, ...]
) -> Answer:
    try:
        return method(source, request, *arguments)
    except SlideError:
        raise
    except Exception as error:  # whatever a decoder raises concerns only this slide; the next one is still read
        raise SlideError("unreadable", f"{request.path}: {reason_of(error)}") from error
