"""Storage backend behind a URL, where files cannot be moved: a group becomes visible with its last file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


class RemoteFolder:
    """Storage behind a URL, accessed through fsspec; its methods are those of `LocalFolder`.

    Args:
        url: URL of the store.

    Raises:
        ImportError, ValueError: fsspec does not support this kind of URL, or needs another package for it.
    """

    def __init__(self, url: str):
        self._url = url
        self._open()

    def _open(self, **options: bool) -> None:
        import fsspec

        self._files, path = fsspec.core.url_to_fs(self._url, **options)
        self._process, self.path = os.getpid(), path.rstrip("/")

    @property
    def files(self) -> AbstractFileSystem:
        """The file system, reopened in a forked process, since processes cannot share a connection."""
        if self._process != os.getpid():
            self._open(skip_instance_cache=True)
        return self._files

    def __getstate__(self) -> dict[str, str]:
        """Return only the URL: a connection cannot be pickled."""
        return {"_url": self._url}

    def __setstate__(self, state: dict[str, str]) -> None:
        """Open the URL again in the receiving process."""
        self._url = state["_url"]
        self._open()

    def read(self, name: str) -> bytes | None:
        """Content of a file, or None if it does not exist."""
        try:
            return self.files.cat_file(f"{self.path}/{name}")
        except (FileNotFoundError, IsADirectoryError):
            return None

    def view(self, name: str) -> bytes:
        """Content of a file; empty if it does not exist."""
        return self.read(name) or b""

    def stamp(self, name: str) -> tuple[int, int] | None:
        """Return None: not every kind of file system can tell whether a file was replaced."""
        return None

    def subfolders(self, name: str) -> list[str]:
        """Names of the folders within a folder."""
        self.files.invalidate_cache()
        try:
            entries = self.files.ls(f"{self.path}/{name}", detail=True)
        except FileNotFoundError:
            return []
        return [e["name"].rstrip("/").rpartition("/")[2] for e in entries if e["type"] == "directory"]

    def write_new(self, name: str, content: bytes) -> bool:
        """Write a new file; return False, and leave it alone, if it already exists."""
        if self.read(name) is not None:
            return False
        self._put(name, content)
        return True

    def write_group(
        self, parent: str, name: str, files: Iterable[tuple[str, bytes | memoryview]], durable: bool
    ) -> None:
        """Remove an existing group, the file that makes it visible first, and then write the files in order."""
        folder = f"{parent}/{name}"
        if self.files.exists(f"{self.path}/{folder}"):
            if self.read(f"{folder}/zarr.json") is not None:
                self.files.rm_file(f"{self.path}/{folder}/zarr.json")
            self.files.rm(f"{self.path}/{folder}", recursive=True)
        for file, content in files:
            self._put(f"{folder}/{file}", bytes(content))

    def partial_file(self, name: str) -> Path | None:
        """Return None: objects behind a URL cannot be appended to."""
        return None

    def unfinished_groups(self) -> list[str]:
        """Return an empty list: there is no temporary folder for groups behind a URL."""
        return []

    def clean_up(self, name: str | None = None) -> None:
        """Do nothing: there is no temporary folder for groups behind a URL."""

    def _put(self, name: str, content: bytes) -> None:
        path = f"{self.path}/{name}"
        self.files.makedirs(path.rpartition("/")[0], exist_ok=True)
        self.files.pipe_file(path, content)
