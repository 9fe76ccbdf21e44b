"""A process that reads slides, and the end of it that asks.

It is a program of its own, not one of `multiprocessing`: that would run the user's script once more in each of them.
Questions come by its standard input and answers go by its standard output, as pickles between these two alone.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, BinaryIO

from dmml.slides.mpp import SlideError

if TYPE_CHECKING:
    from dmml.slides.layout import SlideRequest

_PIPE = 1 << 20
"""Bytes in a pipe: 64 KiB, the usual size, would wake both sides for every half a tile"""
_END_S = 5.0
"""Seconds in which a process that was killed is gone, unless it hangs in the kernel"""


class NoAnswer(Exception):
    """The process gave none; `state` says why in a word."""

    def __init__(self, state: str, text: str):
        super().__init__(text)
        self.state = state


class ReaderProcess:
    """A `SlideSource` in a process of its own.

    Raises:
        OSError: No process can be started.
    """

    def __init__(self):
        # The same modules are found, in the same order, and none of the working folder before them (-P).
        path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pipesize=_PIPE if sys.platform == "linux" else -1,
            env={"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": path},
        )
        self._answers: queue.SimpleQueue[tuple[str, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True, name="tile-listener").start()

    def ask(self, call: str, request: SlideRequest, arguments: tuple, patience: float) -> Any:
        """What `SlideSource.<call>(request, …)` returns.

        Args:
            call: Name of the method.
            request: The slide.
            arguments: What else the method takes.
            patience: Seconds to wait.

        Raises:
            SlideError: The slide cannot be used.
            NoAnswer: The process died, or did not answer; it is ended.
        """
        try:
            pickle.dump((call, request, arguments), self.process.stdin, pickle.HIGHEST_PROTOCOL)
            self.process.stdin.flush()
            answer = self._answers.get(timeout=patience)
        except queue.Empty as error:
            self.close()
            raise NoAnswer("no_answer", f"did not answer for {patience:.0f} s") from error
        except OSError:
            answer = None
        if answer is None:
            self._wait()  # for the code that it ends with by itself
            self.close()
            raise NoAnswer("reader_died", f"died (exit code {self.process.returncode})")
        kind, value = answer
        if kind == "refused":
            raise SlideError(*value)
        if kind == "failed":
            raise SlideError("unreadable", f"{request.path}: {value}")
        return value

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self._wait()  # in vain if it hangs in the kernel, as on a mount that does not answer
        try:
            self.process.stdin.close()
        except OSError:
            return  # a question was under way

    def _wait(self) -> None:
        try:
            self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return

    def _listen(self) -> None:
        with self.process.stdout as answers:
            while True:
                try:
                    self._answers.put(pickle.load(answers))
                except Exception:  # it is gone, or died in the middle of an answer
                    self._answers.put(None)
                    return


def reason_of(error: Exception) -> str:
    """What an error says, in a line."""
    return " ".join(str(error).split()) or type(error).__name__


def _serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the other side is gone."""
    from dmml.slides.tile_reading import SlideSource

    source = SlideSource()
    while True:
        try:
            call, request, arguments = pickle.load(questions)
        except EOFError:
            return
        try:
            answer = ("done", getattr(source, call)(request, *arguments))
        except SlideError as error:
            answer = ("refused", (error.state, str(error)))
        except Exception as error:  # whatever a decoder throws concerns this slide, and the next one goes on
            answer = ("failed", reason_of(error))
        try:
            pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()
        except OSError:
            return


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides what an interruption means
    with open(os.dup(1), "wb") as own:
        os.dup2(2, 1)  # what a decoder prints must not come among the answers
        _serve(sys.stdin.buffer, own)
