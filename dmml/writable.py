"""Checks that a folder can be written to before the work starts. Uses the standard library only."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from dmml.errors import InputError

WRITE_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers for a disk or folder that is full, read-only or owned by another user."""


def check_writable(folder: str | Path, remedy: str = "name another folder") -> None:
    """Refuse a folder in which no file can be written. Nothing is left behind.

    A file is actually created, since permission bits show neither a read-only mount nor the rights of root.

    Args:
        folder: It need not exist; if it does not, its nearest existing parent is tried. URLs are not checked, except
            `file://`.
        remedy: What the user can do, used as the end of the message.

    Raises:
        InputError: The folder or its parent is read-only, full, owned by another user, or is a file.
    """
    name = str(folder).removeprefix("file://")
    if "://" in name:
        return
    folder = Path(name)
    nearest = _nearest_existing(folder)
    if not nearest.is_dir():
        raise InputError(f"{nearest}: is a file, but a folder is needed there; {remedy}")
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        inside = "" if nearest == folder else f" (it would be made in {nearest.resolve()})"
        raise InputError(f"{folder}: cannot be written to{inside}: {_reason(error)}; {remedy}") from error


def write_failure(error: OSError) -> str | None:
    """Describe an error of `WRITE_ERRORS` in one line; None for other errors.

    Args:
        error: As raised by the system, or by a library that passes the system's error on.
    """
    if error.errno not in WRITE_ERRORS:
        return None
    named = error.filename2 or error.filename
    remedy = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check the permissions of file and folder"
    return f"{named or 'a file could not be written'}: {_reason(error)}; {remedy}, then run the command again"


def _nearest_existing(folder: Path) -> Path:
    return next((path for path in (folder, *folder.parents) if os.path.lexists(path)), Path.cwd())


def _reason(error: OSError) -> str:
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]
