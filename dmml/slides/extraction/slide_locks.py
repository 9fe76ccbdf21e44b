"""Records which process works on which slide, by locking one byte per slide of a file beside the store.

The kernel releases a lock when its process ends, however it ends, so there are no stale locks. This works between
machines if the file system has POSIX locks (NFS, Lustre, GPFS). Behind a URL there are no locks, and only `--shard`
keeps processes apart.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dmml.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_WHOLE = 2**62
"""Byte that stands for the files beside the store; slides have lower ones"""


class Claims:
    """Locks of one store. Without a local store, or without POSIX locks, every claim is granted.

    Args:
        store: The store's path or URL.

    Attributes:
        without_locks: Whether the file system turned out to have no locks.

    Raises:
        InputError: The lock file cannot be created or opened.
    """

    def __init__(self, store: str):
        self._file: int | None = None
        self.without_locks = False
        if "://" not in store and fcntl is not None:
            path = Path(store)
            claims = path.parent / f".{path.name}.claims"
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(claims, os.O_RDWR | os.O_CREAT, 0o666)
            except OSError as error:
                raise InputError(
                    f"--out: {claims} cannot be written ({error.strerror}); check the rights of folder and file"
                ) from error

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, *exception) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def take(self, slide_id: str) -> bool:
        """Claim a slide; False if another process has it."""
        if self._file is None:
            return True
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte_of(slide_id))
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            self.without_locks = True
            return True
        return True

    def leave(self, slide_id: str) -> None:
        """Release a slide."""
        if self._file is not None and not self.without_locks:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte_of(slide_id))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold a lock on the files beside the store, after waiting for other processes to finish with them."""
        if self._file is None:
            yield
            return
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX, 1, _WHOLE)
        except OSError:
            yield
            return
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _WHOLE)


def byte_of(slide_id: str) -> int:
    """The byte that stands for a slide, 0 to 2⁶² − 1."""
    return int.from_bytes(hashlib.sha256(slide_id.encode()).digest()[:8], "big") >> 2
