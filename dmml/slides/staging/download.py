"""Downloads one file and checks it."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from dmml.errors import InputError, reason_of
from dmml.slides.slide_error import SlideError
from dmml.slides.staging.remote_files import RemoteFile, remote_file
from dmml.slides.staging.staging_folder import PART
from dmml.slides.storage import lost_storage

STATE = "not_downloaded"
"""State of a slide that cannot be downloaded"""
Result = TypeVar("Result")
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _IncompleteError(Exception):
    """What came is not what the store holds."""


class Downloader:
    """Downloads files and checks them by size and MD5.

    An ETag of 32 hexadecimal digits is an MD5 unless the store encrypts objects with keys of its own. If a file differs
    from its ETag and a second download gives the same bytes, the ETag is none, and no ETag is compared any more.
    """

    def __init__(self) -> None:
        self._are_etags_md5 = True
        self._is_closed = False

    def close(self) -> None:
        """End downloads that are under way."""
        self._is_closed = True

    def _check_open(self) -> None:
        if self._is_closed:
            raise InputError("the run has ended before its downloads")

    def download(self, file_system: Any, file: RemoteFile, path: Path) -> None:  # noqa: ANN401
        """Download a file to a path; it is complete, or not there. A complete file that is there already is kept.

        Raises:
            SlideError: It cannot be downloaded (state `not_downloaded`).
            InputError: The disk is full.
        """
        if is_complete(path, file):
            return
        from fsspec import Callback

        part = path.with_name(path.name + PART)
        seen_md5: set[str] = set()

        def attempt() -> None:
            self._check_open()
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                file_system.get_file(
                    file.name,
                    str(part),
                    callback=Callback(hooks={"ends_with_run": lambda size, value: self._check_open()}),
                )
                self._check(file_system, part, file, seen_md5)
                os.utime(part, ns=(file.time_ns, file.time_ns))
                os.replace(part, path)
            except OSError as error:
                if error.errno not in _DISK_FULL:
                    raise
                raise InputError(
                    f"--staging {path.parent}: the disk is full ({error.strerror}); make room, give a smaller --staging-gib, "
                    "or name a folder on another disk, and run the same command again"
                ) from error

        try:
            with_retries(path, attempt)
        finally:
            part.unlink(missing_ok=True)

    def _check(self, file_system: Any, part: Path, file: RemoteFile, seen_md5: set[str]) -> None:  # noqa: ANN401
        """Compare a downloaded file with what the store states of it."""
        size = part.stat().st_size
        if size != file.size:
            raise _IncompleteError(f"{size:,} of {file.size:,} bytes came")
        if not file.md5 or not (file.is_md5_certain or self._are_etags_md5):
            return
        with open(part, "rb") as content:
            md5 = hashlib.file_digest(content, "md5").hexdigest()
        if md5 == file.md5:
            return
        if file.is_md5_certain or md5 not in seen_md5:
            seen_md5.add(md5)
            raise _IncompleteError(f"its MD5 is {md5} instead of {file.md5}")
        file_system.invalidate_cache()
        if remote_file(file_system, file_system.info(file.name)).md5 != file.md5:
            raise _IncompleteError("it has changed since it was listed")
        self._are_etags_md5 = False


def with_retries(path: Path, attempt: Callable[[], Result]) -> Result:
    """Return what `attempt` returns, which asks a store about a slide; if it fails, try again after increasing waits.

    A file that is not there, or to which access is refused, is not asked for again.

    Raises:
        SlideError: It still fails (state `not_downloaded`).
        InputError: Raised by `attempt`.
    """
    problem: Exception | None = None
    for wait in (0.0, *lost_storage.RETRY_WAITS_S):
        time.sleep(wait)
        try:
            return attempt()
        except InputError:
            raise
        except Exception as error:  # every file system raises its own types
            problem = error
            if isinstance(error, FileNotFoundError | PermissionError):
                break
    reason = "" if problem is None else reason_of(problem)
    raise SlideError(STATE, f"{path}: cannot be downloaded ({reason}); run the same command again later") from problem


def is_complete(path: Path, file: RemoteFile) -> bool:
    """Whether a downloaded file is there: it gets its name and its time when it is complete."""
    try:
        status = path.stat()
    except OSError:
        return False
    return file.time_ns > 0 and (status.st_size, status.st_mtime_ns) == (file.size, file.time_ns)
