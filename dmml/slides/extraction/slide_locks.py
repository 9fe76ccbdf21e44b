"""Records which process works on which slide, by locking one small file per slide in a folder next to the store.

The locks are the kernel's (`flock`, through filelock), so they end with their process, however it ends, and no lock is
ever stale. They work between machines if the file system has locks (NFS, Lustre mounted with `flock`, GPFS). filelock
can also fall back to files whose mere existence is the lock; that is switched off, because such a file would survive a
process that is killed on another machine. Behind a URL there are no locks, and only `--shard` keeps processes apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from dmml.errors import InputError
from dmml.writable import WRITE_ERRORS

_COMPANION_FILES = ".companion-files"
"""Name of the lock on the files next to the store; no slide has it, since ids do not begin with a dot"""


class SlideLocks:
    """Locks of one store. Behind a URL, or on a file system without locks, every lock is granted.

    Args:
        store: The store's path or URL.

    Attributes:
        unsupported: Whether the file system turned out to have no locks.

    Raises:
        InputError: The folder of the locks cannot be written.
    """

    def __init__(self, store: str):
        self.unsupported = False
        self._held: dict[str, FileLock] = {}
        self._folder: Path | None = None
        if "://" in store:
            return
        path = Path(store)
        self._folder = path.parent / f".{path.name}.locks"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._not_writable(error) from error
        self.acquire(_COMPANION_FILES)  # finds out now whether files can be locked here
        self.release(_COMPANION_FILES)

    def __enter__(self) -> SlideLocks:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for slide_id in list(self._held):
            self.release(slide_id)

    def acquire(self, slide_id: str) -> bool:
        """Lock a slide; False if another process has locked it.

        Raises:
            InputError: The folder of the locks cannot be written.
        """
        if self._folder is None or slide_id in self._held:
            return True
        return self._acquire(self._folder, slide_id, blocking=False)

    def release(self, slide_id: str) -> None:
        """Unlock a slide, if this process has locked it."""
        lock = self._held.pop(slide_id, None)
        if lock is None:
            return
        if slide_id != _COMPANION_FILES:
            # A process that has opened the file before it is removed does not get the lock: filelock compares inodes.
            with suppress(OSError):
                Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()

    @contextmanager
    def companion_files(self) -> Iterator[None]:
        """Hold a lock on the files next to the store, after waiting for other processes to finish with them."""
        if self._folder is not None:
            self._acquire(self._folder, _COMPANION_FILES, blocking=True)
        try:
            yield
        finally:
            self.release(_COMPANION_FILES)

    def _acquire(self, folder: Path, name: str, blocking: bool) -> bool:
        lock = FileLock(folder / name, thread_local=False, fallback_to_soft=False)
        try:
            lock.acquire(blocking=blocking)
        except Timeout:
            return False
        except OSError as error:
            if error.errno in WRITE_ERRORS:
                raise self._not_writable(error) from error
            self.unsupported = True
            return True
        self._held[name] = lock
        return True

    def _not_writable(self, error: OSError) -> InputError:
        return InputError(
            f"--out: its folder of locks, {self._folder}, cannot be written ({error.strerror}); check the permissions of "
            "the folder and its files"
        )
