"""Tells storage that does not answer from files that are damaged: the former is asked again, the latter is not."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from dmml.errors import reason_of
from dmml.slides.slide_error import SlideError

STATE = "storage_lost"
"""State of a slide whose storage does not answer"""
RETRY_WAITS_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds before each further attempt to read a slide, one minute in total"""
LOST_ERRNOS = frozenset(
    getattr(errno, name)
    for name in (
        "EIO", "ESTALE", "ETIMEDOUT", "ENOTCONN", "ENODEV", "ENXIO", "EREMOTEIO", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN",
        "ENETUNREACH", "ECONNRESET", "ECONNABORTED", "ECONNREFUSED", "ESHUTDOWN",
    )
    if hasattr(errno, name)
)  # fmt: skip
"""Errors of a disk or a network, which say nothing about the file"""
_GONE_ERRNOS = (errno.ENOENT, errno.ENOTDIR)
_PIECES, _PIECE, _CHUNK = 16, 1 << 12, 1 << 20
Result = TypeVar("Result")


def storage_lost(path: Path, problem: str) -> SlideError:
    """Return the error of a slide whose storage does not answer, with the problem in a few words."""
    return SlideError(
        STATE, f"{path}: its storage does not answer ({problem}); run the same command again once it does"
    )


def lost_errno(error: BaseException | None) -> OSError | None:
    """Return the error of a disk or a network among an error and its causes; None if there is none."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in LOST_ERRNOS:
            return error
        error = error.__cause__ or error.__context__
    return None


def is_lost(error: OSError) -> bool:
    """Whether an error about a file that was there means that its storage does not answer, or that it has vanished."""
    return error.errno in LOST_ERRNOS or error.errno in _GONE_ERRNOS


class StorageProbe:
    """Asks the storage of one file, after reading it has failed, whether the failure was its own.

    Decoders hide the reason: for OpenSlide, a disk that does not answer and a damaged tile are the same.

    Args:
        path: The file.
    """

    def __init__(self, path: Path):
        self._path = path
        self._was_read_through = False

    def check(self, error: Exception, is_thorough: bool = False) -> None:
        """Do nothing if the storage answers, so that the file itself is the problem.

        Args:
            error: The failure.
            is_thorough: Whether to read the whole file; done once, since a decoder may have failed at any byte.

        Raises:
            SlideError: The storage does not answer, or the file has vanished (state `storage_lost`).
        """
        problem = lost_errno(error)
        try:
            if problem is None:
                self._read(is_thorough and not self._was_read_through)
        except OSError as found:
            if found.errno in _GONE_ERRNOS:
                raise storage_lost(self._path, "the file has vanished") from error
            problem = lost_errno(found)
        if problem is not None:
            raise storage_lost(self._path, problem.strerror or reason_of(problem)) from error

    def _read(self, is_thorough: bool) -> None:
        """Read the whole file, or pieces of it."""
        status = os.stat(self._path)
        if not stat.S_ISREG(status.st_mode):
            return
        with open(self._path, "rb", buffering=0) as file:
            if is_thorough:
                while file.read(_CHUNK):
                    pass
                self._was_read_through = True
                return
            for piece in range(_PIECES):
                file.seek(max(0, (status.st_size - _PIECE) * piece // (_PIECES - 1)))
                file.read(_PIECE)


def with_retries(attempt: Callable[[], Result]) -> Result:
    """Return what `attempt` returns; if storage does not answer, try again after increasing waits.

    Raises:
        SlideError: It still does not answer (state `storage_lost`), or another error of `attempt`.
    """
    for wait in RETRY_WAITS_S:
        try:
            return attempt()
        except SlideError as error:
            if error.state != STATE:
                raise
        time.sleep(wait)
    return attempt()
