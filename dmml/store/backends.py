"""The storage backend of a path: a local folder, or a folder behind any URL that fsspec supports."""

from __future__ import annotations

from pathlib import Path

from dmml.errors import InputError
from dmml.store.local_folder import LocalFolder
from dmml.store.remote_folder import RemoteFolder

Backend = LocalFolder | RemoteFolder


def backend_of(path: str | Path) -> Backend:
    """Return the backend of a folder or URL.

    Raises:
        InputError: fsspec does not support this kind of URL, or needs another package for it.
    """
    text = str(path).removeprefix("file://")
    if "://" not in text:
        return LocalFolder(text)
    try:
        return RemoteFolder(text)
    except (ImportError, ValueError) as error:
        raise InputError(f"{path}: this kind of URL needs another package ({error})") from error
