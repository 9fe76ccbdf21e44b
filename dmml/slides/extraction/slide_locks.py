"""Records which process works on which slide, by locking one byte per slide of a file next to the store.

The kernel releases a lock when its process ends, however it ends, so no lock is ever stale. The locks work between
machines if the file system has POSIX locks (NFS, GPFS, Lustre mounted with `flock`). Behind a URL there are no locks,
and only `--shard` keeps processes apart.

filelock is not used, because it locks with `flock`, which GPFS does not pass on to other machines, whereas POSIX locks
work there: see `docs/decisions/written_by_hand.md`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from dmml.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_COMPANION_FILES = 2**62
"""Byte that stands for the files next to the store; slides have lower ones"""


class SlideLocks:
    """Locks of one store. Without a local store, or without POSIX locks, every lock is granted.

    Args:
        store: The store's path or URL.

    Attributes:
        unsupported: Whether the file system turned out to have no locks.

    Raises:
        InputError: The lock file cannot be created or opened.
    """

    def __init__(self, store: str):
        self._file: int | None = None
        self.unsupported = False
        if "://" in store or fcntl is None:
            return
        path = Path(store)
        lock_file = path.parent / f".{path.name}.claims"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(lock_file, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise InputError(
                f"--out: the lock file {lock_file} cannot be written ({error.strerror}); check the permissions of the folder "
                "and the file"
            ) from error

    def __enter__(self) -> SlideLocks:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            os.close(self._file)  # releases all locks
            self._file = None

    def acquire(self, slide_id: str) -> bool:
        """Lock a slide; False if another process has locked it."""
        if self._file is None:
            return True
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte_of(slide_id))
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            self.unsupported = True
        return True

    def release(self, slide_id: str) -> None:
        """Unlock a slide."""
        if self._file is not None and not self.unsupported:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte_of(slide_id))

    @contextmanager
    def companion_files(self) -> Iterator[None]:
        """Hold a lock on the files next to the store, after waiting for other processes to finish with them."""
        if self._file is None:
            yield
            return
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX, 1, _COMPANION_FILES)
        except OSError:
            yield
            return
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _COMPANION_FILES)


def byte_of(slide_id: str) -> int:
    """The byte that stands for a slide, 0 to 2⁶² − 1."""
    return int.from_bytes(hashlib.sha256(slide_id.encode()).digest()[:8], "big") >> 2
