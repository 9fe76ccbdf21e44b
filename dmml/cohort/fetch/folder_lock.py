"""Keeps two downloads out of one folder, by a POSIX lock that ends with its process, however that ends.

filelock is not used, for the reason of the slide locks in `docs/decisions/written_by_hand.md`: it locks with `flock`,
which GPFS does not pass on to other machines.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dmml.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_NAME = ".fetch.lock"


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder, which is created if necessary, while the block runs.

    Raises:
        InputError: Another process downloads into the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _NAME).open("w") as file:
        if fcntl is not None:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    f"{folder}: another process downloads into this folder; wait until it has ended, or name another folder"
                ) from None
            except OSError:
                pass  # a file system without locks
        yield
