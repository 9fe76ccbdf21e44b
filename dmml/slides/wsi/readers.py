"""Readers that work beside the encoder: processes, each with a thread that waits for it, or a single thread.

A process can crash in a decoder, or hang on a network disk, without ending the run: the slide that it was reading is
given up with a reason, and another process takes its place.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from dmml.errors import reason_of
from dmml.slides.tiling.layout import SlideRequest
from dmml.slides.tiling.tile_reading import SlideSource
from dmml.slides.wsi.mpp import SlideError
from dmml.slides.wsi.reader_process import NoAnswer, ReaderProcess

PATIENCE_S = 900.0
"""Seconds after which a reading process that does not answer is ended; no unit of tiles takes so long"""


class Readers:
    """Answers calls of `SlideSource` in the background.

    Args:
        processes: Number of reading processes; 0 means one thread of this process.
        patience: Seconds after which a process that does not answer is ended.
    """

    def __init__(self, processes: int = 0, patience: float = PATIENCE_S):
        self.processes = processes if os.name == "posix" else 0  # pipes can be inherited only there
        self.patience = patience
        self.width = max(1, self.processes)
        self._threads = ThreadPoolExecutor(self.width, thread_name_prefix="tile-reader")
        self._own = threading.local()
        self._made: list[SlideSource | ReaderProcess] = []

    def __enter__(self) -> Readers:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def start(self) -> None:
        """Start the processes now, while something else is being loaded."""
        barrier = threading.Barrier(self.width)

        def begin() -> None:
            try:
                self._mine()
            finally:  # a reader that could not start must not leave the others waiting for it
                barrier.wait()

        for _ in range(self.width):
            self._threads.submit(begin)

    def submit(self, call: str, request: SlideRequest, *arguments: Any) -> Future:
        """Request `SlideSource.<call>(request, …)`; the future raises `SlideError` if the slide cannot be used."""
        return self._threads.submit(self._answer, call, request, arguments)

    def close(self) -> None:
        """End all readers and drop unanswered requests."""
        self._threads.shutdown(wait=not self.processes, cancel_futures=True)
        for reader in self._made:
            reader.close()
        self._threads.shutdown(wait=True)

    def _mine(self) -> SlideSource | ReaderProcess:
        if getattr(self._own, "reader", None) is None:
            self._own.reader = ReaderProcess() if self.processes else SlideSource()
            self._made.append(self._own.reader)
        return self._own.reader

    def _answer(self, call: str, request: SlideRequest, arguments: tuple) -> Any:
        try:
            reader = self._mine()
        except OSError as error:
            reason = (
                f"{request.path}: no process could be started to read it ({reason_of(error)}); give fewer --readers"
            )
            raise SlideError("reader_died", reason) from error
        if isinstance(reader, SlideSource):
            try:
                return getattr(reader, call)(request, *arguments)
            except SlideError:
                raise
            except Exception as error:  # whatever a decoder raises concerns only this slide; the next one is still read
                raise SlideError("unreadable", f"{request.path}: {reason_of(error)}") from error
        try:
            return reader.ask(call, request, arguments, self.patience)
        except NoAnswer as error:
            self._own.reader = None
            raise SlideError(
                error.state, f"{request.path}: the process that read it {error}; look at the file, or convert it"
            ) from error
