"""A folder of one process for downloaded slides, which holds a limited number of bytes."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import threading
from collections import deque
from pathlib import Path

from dmml.errors import InputError, reason_of
from dmml.slides.slide_error import SlideError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

MAX_DEFAULT_GIB = 100.0
"""GiB that are used at most unless the user names a limit; half of what is free, if that is less"""
PART = ".part"
"""Suffix of a file that is not complete"""
_GIB = 2**30
_LOCK = ".lock"


class StagingFolder:
    """A folder below the one that the user names, locked as long as the process lives.

    What a killed run left is adopted: the files that are complete are used again, and everything else is removed.

    Args:
        parent: Folder of all staging folders; None means one for the user in the system's temporary folder.
        limit_gib: GiB that it may hold; None means `MAX_DEFAULT_GIB`, or half of what is free.

    Attributes:
        path: The folder.
        limit: Bytes that it may hold.

    Raises:
        InputError: The folder cannot be created, or the default one belongs to somebody else.
    """

    def __init__(self, parent: Path | None, limit_gib: float | None):
        is_default = parent is None
        parent = parent or Path(
            tempfile.gettempdir(), f"dmml-staging-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
        )
        try:
            parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = parent.lstat()
            if is_default and (not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid()):
                raise InputError(f"{parent}: belongs to somebody else; name another folder with --staging")
            self._lock, self.path = _adopt(parent) or _create(parent)
        except OSError as error:
            raise InputError(f"--staging {parent}: cannot be used ({reason_of(error)}); name another folder") from error
        free = shutil.disk_usage(self.path).free
        self.limit = int(limit_gib * _GIB) if limit_gib is not None else min(int(MAX_DEFAULT_GIB * _GIB), free // 2)
        self._used = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()
        self._is_closed = False

    def ticket(self) -> object:
        """Queue for room. Slides get room in the order of their tickets, since they are encoded in this order, too."""
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
        return ticket

    def take(self, ticket: object, size: int, slide: Path) -> None:
        """Wait for room for so many bytes.

        Raises:
            SlideError: They are more than the folder may ever hold (state `too_large`), or the run ends.
        """
        with self._changed:
            if size > self.limit:
                raise SlideError(
                    "too_large",
                    f"{slide}: its {size / _GIB:.3g} GiB are more than the {self.limit / _GIB:.3g} GiB of the staging "
                    "folder; give a larger --staging-gib, or a --staging with more room",
                )
            self._changed.wait_for(
                lambda: self._is_closed or (self._waiting[0] is ticket and self._used + size <= self.limit)
            )
            if self._is_closed:
                raise SlideError("not_downloaded", f"{slide}: the run has ended")
            self._used += size
            self._waiting.remove(ticket)
            self._changed.notify_all()

    def drop(self, ticket: object) -> None:
        """Leave the queue, if it has not led to room yet."""
        with self._changed:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                self._changed.notify_all()

    def give_back(self, size: int) -> None:
        """Make room again."""
        with self._changed:
            self._used -= size
            self._changed.notify_all()

    def keep_only(self, wanted: set[Path]) -> None:
        """Remove files that a killed run left and this one does not need."""
        for path in self.path.rglob("*"):
            if path.is_file() and path.name != _LOCK and path not in wanted:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the folder, and let nobody wait for room any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def remove_file(path: Path, was_read: bool) -> None:
    """Remove a staged file; if all of it was read, its space is free at once, although a reader may have it open."""
    try:
        if was_read:
            os.truncate(path, 0)
        path.unlink()
    except OSError:
        return  # the whole folder is removed at the end, or by the next run


def _adopt(parent: Path) -> tuple[int | None, Path] | None:
    """Lock a folder that a dead process left and remove its incomplete files; remove all further such folders."""
    adopted = None
    for folder in sorted(parent.glob("run-*")):
        lock = _lock(folder)
        if lock is None:
            continue
        if adopted is None:
            adopted = lock, folder
            for part in folder.rglob(f"*{PART}"):
                part.unlink()
        else:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
    return adopted


def _create(parent: Path) -> tuple[int | None, Path]:
    for _ in range(3):  # another process may adopt a folder that is not locked yet
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=parent))
        if (lock := _lock(folder)) is not None:
            break
    return lock, folder


def _lock(folder: Path) -> int | None:
    """Lock a folder; None if a living process has it, or if there are no locks here."""
    if fcntl is None:
        return None
    try:
        file = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    return file
