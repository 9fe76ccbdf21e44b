"""Storage in a local folder, in which a group of files appears completely or not at all."""

from __future__ import annotations

import mmap
import os
import platform
import shutil
from collections.abc import Iterable
from pathlib import Path

_MIN_MAPPED_BYTES = 1 << 18
"""Size from which mapping a file is cheaper than copying it"""
TEMPORARY = ".writing"
"""Temporary folder of a local store, in which a group is assembled before it is moved into place"""
_REPLACED = f"{TEMPORARY}/.replaced"
"""Folder for a replaced group until it is deleted; a separate folder, so that no other group can have its name"""
_PARTIAL = f"{TEMPORARY}/.drafts"
"""Folder in which a writer may keep an incomplete group until it can write the whole group"""
_READ_BYTES = 1 << 16
"""Bytes of one read; nearly all files that are read whole are shorter"""
_READ_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0)


class LocalFolder:
    """Storage in a local folder."""

    def __init__(self, path: str):
        self.path = path

    def read(self, name: str) -> bytes | None:
        """Content of a file, or None if it does not exist."""
        try:
            file = os.open(f"{self.path}/{name}", _READ_FLAGS)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:  # a file object would take three times as long, and a store of many slides has many small files
            return b"".join(iter(lambda: os.read(file, _READ_BYTES), b""))
        finally:
            os.close(file)

    def view(self, name: str) -> bytes | mmap.mmap:
        """Content of a file, memory-mapped unless the file is small; empty if the file does not exist."""
        try:
            with open(f"{self.path}/{name}", "rb") as file:
                if os.fstat(file.fileno()).st_size < _MIN_MAPPED_BYTES:
                    return file.read()
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            return b""

    def stamp(self, name: str) -> tuple[int, int] | None:
        """Stamp that changes when a file is replaced; None if the file does not exist."""
        try:
            status = os.stat(f"{self.path}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status.st_ino, status.st_mtime_ns

    def subfolders(self, name: str) -> list[str]:
        """Names of the visible folders within a folder."""
        try:
            with os.scandir(f"{self.path}/{name}") as entries:
                return [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
        except FileNotFoundError:
            return []

    def write_new(self, name: str, content: bytes) -> bool:
        """Write a new file; return False, and leave it alone, if it already exists."""
        path = f"{self.path}/{name}"
        partial = f"{self.path}/{TEMPORARY}/{name.replace('/', '-')}.{platform.node()}.{os.getpid()}.part"
        for folder in (os.path.dirname(path), os.path.dirname(partial)):
            _make_folder(folder)
        _write(partial, content, durable=True)
        try:
            os.link(partial, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            if os.path.exists(path):
                return False
            os.replace(partial, path)
            return True
        finally:
            Path(partial).unlink(missing_ok=True)
        return True

    def write_group(
        self, parent: str, name: str, files: Iterable[tuple[str, bytes | memoryview]], durable: bool
    ) -> None:
        """Assemble a group in a temporary folder and move it into place; an existing group of that name is replaced.

        Args:
            parent: Folder of the group.
            name: Name of the group.
            files: (name within the group, content) of each file.
            durable: Wait until everything is on the disk, so that not even a power cut leaves an incomplete group.
        """
        assembled, replaced = f"{self.path}/{TEMPORARY}/{name}", f"{self.path}/{_REPLACED}/{name}"
        for leftover in (assembled, replaced):
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            created = set()
            for file, content in files:
                path = f"{assembled}/{file}"
                folder = os.path.dirname(path)
                if folder not in created:
                    _make_folder(folder)
                    created.add(folder)
                _write(path, content, durable)
        except OSError:
            shutil.rmtree(assembled, ignore_errors=True)  # a full disk must not stay full of partial files
            raise
        final = f"{self.path}/{parent}/{name}"
        if os.path.isdir(final):
            _make_folder(f"{self.path}/{_REPLACED}")
            os.rename(final, replaced)
        os.rename(assembled, final)
        shutil.rmtree(replaced, ignore_errors=True)
        if durable:
            _sync_folder(f"{self.path}/{parent}")

    def partial_file(self, name: str) -> Path | None:
        """File in which a writer may keep an incomplete group until `clean_up` removes it; its folder is created here."""
        _make_folder(f"{self.path}/{_PARTIAL}")
        return Path(self.path, _PARTIAL, name)

    def unfinished_groups(self) -> list[str]:
        """Names of the groups that a writer has left half-written or in a partial file."""
        try:
            partial = os.listdir(f"{self.path}/{_PARTIAL}")
        except FileNotFoundError:
            partial = []
        return sorted({*self.subfolders(TEMPORARY), *self.subfolders(_REPLACED), *partial})

    def clean_up(self, name: str | None = None) -> None:
        """Remove what is left of the named group, if any, and then files of ended processes and empty folders."""
        folder = Path(self.path, TEMPORARY)
        if name is not None:
            for leftover in (folder / name, Path(self.path, _REPLACED, name)):
                shutil.rmtree(leftover, ignore_errors=True)
            Path(self.path, _PARTIAL, name).unlink(missing_ok=True)
        for partial in folder.glob(f"*.{platform.node()}.*.part"):
            if not _is_running(int(partial.name.split(".")[-2])):
                partial.unlink(missing_ok=True)
        # The store's folder is removed, too, if nothing was ever written to it.
        for empty in (Path(self.path, _REPLACED), Path(self.path, _PARTIAL), folder, Path(self.path)):
            try:
                empty.rmdir()
            except OSError:
                continue


def _make_folder(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
    except FileNotFoundError:  # another process's `clean_up` has removed the parent folder in the meantime
        os.makedirs(folder, exist_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _write(path: str, content: bytes | memoryview, durable: bool) -> None:
    with open(path, "wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())


def _sync_folder(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        return  # some network file systems cannot sync folders
    finally:
        os.close(handle)
