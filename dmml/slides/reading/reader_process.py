"""A process that reads slides, and the object in the main process that sends it requests.

It is a separate program instead of a `multiprocessing` process, which would run the user's script again in each one, or
copy a process in which the encoder's threads are running. Pools built on `multiprocessing`, such as pebble's, inherit
this choice; `docs/decisions/written_by_hand.md` has the comparison.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection, Pipe
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from dmml.errors import reason_of
from dmml.slides.reading.tile_reading import SlideSource, TileBatch
from dmml.slides.slide_error import SlideError

if TYPE_CHECKING:
    from dmml.slides.tiling.layout import SlideRequest

_MAX_EXIT_S = 5.0
"""Seconds within which a killed process is gone, unless it hangs in the kernel"""
_KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20)}
"""Settings of glibc by which the memory of one picture serves the next. With its defaults, a fifth of the time of finding
tissue is spent on fetching memory from the kernel and returning it. Other C libraries ignore them"""

Answer = TypeVar("Answer")


class ReaderFailed(Exception):
    """The process died or did not answer; `state` is the keyword for the reason."""

    def __init__(self, state: str, text: str):
        super().__init__(text)
        self.state = state


class ReaderProcess:
    """A `SlideSource` in a separate process.

    Raises:
        OSError: No process can be started.
    """

    def __init__(self) -> None:
        # The process must find the same modules in the same order, and none of the working folder before them (-P).
        path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
        self._pipe, other = Pipe()
        with other:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(other.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                env={"OMP_NUM_THREADS": "1", **_KEPT_MEMORY, **os.environ, "PYTHONPATH": path},
            )

    def call(
        self, method: Callable[..., Answer], request: SlideRequest, arguments: tuple[object, ...], timeout: float
    ) -> Answer:
        """Return what a method of `SlideSource` returns in the process.

        Args:
            method: The method.
            request: The slide.
            arguments: Further arguments of the method.
            timeout: Seconds to wait.

        Raises:
            SlideError: The slide cannot be used.
            ReaderFailed: The process died or did not answer; it has been ended.
        """
        try:
            self._pipe.send((method.__name__, request, arguments))
            if not self._pipe.poll(timeout):
                self.close()
                raise ReaderFailed("no_answer", f"did not answer for {timeout:.0f} s")
            outcome, value = _receive(self._pipe)
        except (EOFError, OSError) as error:
            self._wait()  # lets a dying process end by itself, so that the exit code is not that of the kill
            self.close()
            raise ReaderFailed("reader_died", f"died (exit code {self.process.returncode})") from error
        if outcome == "refused":
            raise SlideError(*cast("tuple[str, str]", value))
        if outcome == "failed":
            raise SlideError("unreadable", f"{request.path}: {value}")
        return cast("Answer", value)

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self._wait()  # times out if the process hangs in the kernel, as on a mount that does not answer
        self._pipe.close()

    def _wait(self) -> None:
        try:
            self.process.wait(_MAX_EXIT_S)
        except subprocess.TimeoutExpired:
            return


def _serve(pipe: Connection) -> None:
    """Answer requests until the main process is gone."""
    source = SlideSource()
    while True:
        try:
            method, request, arguments = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer: tuple[str, object] = ("done", getattr(source, method)(request, *arguments))
        except SlideError as error:
            answer = ("refused", (error.state, str(error)))
        except Exception as error:  # whatever a decoder raises concerns only this slide; the next one is still read
            answer = ("failed", reason_of(error))
        try:
            _send(pipe, answer)
        except OSError:
            return


def _send(pipe: Connection, answer: tuple[str, object]) -> None:
    """Send an answer; the pixels of tiles follow it as they lie in memory, which saves three copies of them."""
    outcome, value = answer
    if not isinstance(value, TileBatch):
        pipe.send((outcome, value))
        return
    pipe.send((outcome, replace(value, pixels=value.pixels[..., :0])))
    pipe.send_bytes(value.pixels.reshape(-1).data)


def _receive(pipe: Connection) -> tuple[str, object]:
    """Receive what `_send` has sent."""
    outcome, value = pipe.recv()
    if not isinstance(value, TileBatch):
        return outcome, value
    pixels = np.empty((*value.pixels.shape[:-1], 3), np.uint8)
    pipe.recv_bytes_into(pixels.reshape(-1).data)
    return outcome, replace(value, pixels=pixels)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides what an interruption means
    _serve(Connection(int(sys.argv[1])))
