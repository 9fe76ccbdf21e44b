"""A place behind a URL, where files cannot be moved: a group becomes visible with its last one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Buffer

    from fsspec import AbstractFileSystem

    from dmml.store.places import Files


class Remote:
    """A place behind a URL, by fsspec. There is no moving here: a group is made visible by its last file.

    Args:
        url: Of the place.

    Raises:
        ImportError, ValueError: fsspec does not know this kind of URL, or needs another package for it.
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
        """The file system, opened anew in a process that was forked: a connection is of one process alone."""
        if self._process != os.getpid():
            self._open(skip_instance_cache=True)
        return self._files

    def __getstate__(self) -> dict[str, str]:
        """The URL alone; a connection does not travel."""
        return {"_url": self._url}

    def __setstate__(self, state: dict[str, str]) -> None:
        """Open it where it arrives."""
        self._url = state["_url"]
        self._open()

    def read(self, name: str) -> bytes | None:
        """Content of a file, None where there is none."""
        try:
            return self.files.cat_file(f"{self.path}/{name}")
        except (FileNotFoundError, IsADirectoryError):
            return None

    def view(self, name: str) -> Buffer:
        """Content of a file, or nothing where there is none."""
        return self.read(name) or b""

    def stamp(self, name: str) -> tuple[int, int] | None:
        """None: not every kind of file system tells it."""
        return None

    def folders(self, name: str) -> list[str]:
        """Names of the folders within one."""
        self.files.invalidate_cache()
        try:
            entries = self.files.ls(f"{self.path}/{name}", detail=True)
        except FileNotFoundError:
            return []
        return [e["name"].rstrip("/").rpartition("/")[2] for e in entries if e["type"] == "directory"]

    def write_new(self, name: str, content: bytes) -> bool:
        """Write a file that is not there yet; False where somebody else was first."""
        if self.read(name) is not None:
            return False
        self._put(name, content)
        return True

    def write_group(self, parent: str, name: str, files: Files, durable: bool) -> None:
        """Write the files in their order; a group of that name is taken away first, its last file before the others."""
        folder = f"{parent}/{name}"
        if self.files.exists(f"{self.path}/{folder}"):
            if self.read(f"{folder}/zarr.json") is not None:
                self.files.rm_file(f"{self.path}/{folder}/zarr.json")
            self.files.rm(f"{self.path}/{folder}", recursive=True)
        for file, content in files:
            self._put(f"{folder}/{file}", bytes(content))

    def draft(self, name: str) -> Path | None:
        """None: objects cannot be added to."""
        return None

    def unfinished(self) -> list[str]:
        """Nothing is put together aside."""
        return []

    def tidy(self, name: str | None = None) -> None:
        """Nothing is put together aside."""

    def _put(self, name: str, content: bytes) -> None:
        path = f"{self.path}/{name}"
        self.files.makedirs(path.rpartition("/")[0], exist_ok=True)
        self.files.pipe_file(path, content)
