"""Storage backends: a local folder, or any URL that fsspec supports. A group of files appears whole or not at all."""

from __future__ import annotations

import mmap
import os
import platform
import shutil
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from dmml.errors import InputError
from dmml.store.remote import Remote

if TYPE_CHECKING:
    from collections.abc import Buffer

Files = Iterable[tuple[str, "bytes | memoryview"]]
"""(name within the group, content) of each file; the file that makes the group visible comes last"""
_WORTH_MAPPING = 1 << 18
"""Size in bytes from which mapping a file is cheaper than copying it"""
WRITING = ".writing"
"""Temporary folder of a local store, in which a group is assembled before it is moved into place"""
_REPLACED = f"{WRITING}/.replaced"
"""Folder for a replaced group until it is deleted; a separate folder, so that no other group can have its name"""
_DRAFTS = f"{WRITING}/.drafts"
"""Folder in which a writer may keep an incomplete group until it can write the whole group"""


def is_plain_name(name: str) -> bool:
    """Whether a name can be that of a folder directly within another folder.

    Refused are paths, hidden names, the parent folder, zarr's `zarr.json`, control characters and invalid UTF-8.
    """
    if not name or name.startswith(".") or name == "zarr.json" or "/" in name or "\\" in name:
        return False
    return not any(unicodedata.category(sign) in ("Cc", "Cs") for sign in name)


def place_of(path: str | Path) -> Folder | Remote:
    """Return the backend of a folder or URL.

    Raises:
        InputError: fsspec does not support this kind of URL, or needs another package for it.
    """
    text = str(path).removeprefix("file://")
    if "://" not in text:
        return Folder(text)
    try:
        return Remote(text)
    except (ImportError, ValueError) as error:
        raise InputError(f"{path}: this kind of URL needs another package ({error})") from error


class Folder:
    """Storage in a local folder."""

    def __init__(self, path: str):
        self.path = path

    def read(self, name: str) -> bytes | None:
        """Content of a file, or None if it does not exist."""
        try:
            with open(f"{self.path}/{name}", "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def view(self, name: str) -> Buffer:
        """Content of a file, memory-mapped unless the file is small; empty if the file does not exist."""
        try:
            with open(f"{self.path}/{name}", "rb") as file:
                if os.fstat(file.fileno()).st_size < _WORTH_MAPPING:
                    return file.read()
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            return b""

    def stamp(self, name: str) -> tuple[int, int] | None:
        """Stamp that changes when a file is replaced; None if the file does not exist."""
        try:
            known = os.stat(f"{self.path}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        return known.st_ino, known.st_mtime_ns

    def folders(self, name: str) -> list[str]:
        """Names of the visible folders within a folder."""
        try:
            with os.scandir(f"{self.path}/{name}") as entries:
                return [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
        except FileNotFoundError:
            return []

    def write_new(self, name: str, content: bytes) -> bool:
        """Write a new file; return False, and leave it alone, if it already exists."""
        path = f"{self.path}/{name}"
        part = f"{self.path}/{WRITING}/{name.replace('/', '-')}.{platform.node()}.{os.getpid()}.part"
        for folder in (os.path.dirname(path), os.path.dirname(part)):
            _make(folder)
        _write(part, content, durable=True)
        try:
            os.link(part, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            if os.path.exists(path):
                return False
            os.replace(part, path)
            return True
        finally:
            Path(part).unlink(missing_ok=True)
        return True

    def write_group(self, parent: str, name: str, files: Files, durable: bool) -> None:
        """Assemble a group in a temporary folder and move it into place; an existing group of that name is replaced.

        Args:
            parent: Folder of the group.
            name: Name of the group.
            files: Files of the group.
            durable: Wait until everything is on the disk, so that not even a power cut leaves an incomplete group.
        """
        aside, old, final = f"{self.path}/{WRITING}/{name}", f"{self.path}/{_REPLACED}/{name}", ""
        for leftover in (aside, old):
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            made = set()
            for file, content in files:
                path = f"{aside}/{file}"
                folder = os.path.dirname(path)
                if folder not in made:
                    _make(folder)
                    made.add(folder)
                _write(path, content, durable)
        except OSError:
            shutil.rmtree(aside, ignore_errors=True)  # a full disk must not stay full of partial files
            raise
        final = f"{self.path}/{parent}/{name}"
        if os.path.isdir(final):
            _make(f"{self.path}/{_REPLACED}")
            os.rename(final, old)
        os.rename(aside, final)
        shutil.rmtree(old, ignore_errors=True)
        if durable:
            _sync_folder(f"{self.path}/{parent}")

    def draft(self, name: str) -> Path | None:
        """File in which a writer may keep an incomplete group until `tidy` removes it; its folder is created here."""
        _make(f"{self.path}/{_DRAFTS}")
        return Path(self.path, _DRAFTS, name)

    def unfinished(self) -> list[str]:
        """Names of the groups that a writer has left half-written or as a draft."""
        try:
            drafts = os.listdir(f"{self.path}/{_DRAFTS}")
        except FileNotFoundError:
            drafts = []
        return sorted({*self.folders(WRITING), *self.folders(_REPLACED), *drafts})

    def tidy(self, name: str | None = None) -> None:
        """Remove what is left of the named group, if any, and then files of ended processes and empty folders."""
        folder = Path(self.path, WRITING)
        if name is not None:
            for leftover in (folder / name, Path(self.path, _REPLACED, name)):
                shutil.rmtree(leftover, ignore_errors=True)
            Path(self.path, _DRAFTS, name).unlink(missing_ok=True)
        for part in folder.glob(f"*.{platform.node()}.*.part"):
            if not _is_running(int(part.name.split(".")[-2])):
                part.unlink(missing_ok=True)
        # The store's folder is removed, too, if nothing was ever written to it.
        for empty in (Path(self.path, _REPLACED), Path(self.path, _DRAFTS), folder, Path(self.path)):
            try:
                empty.rmdir()
            except OSError:
                continue


def _make(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
    except FileNotFoundError:  # another process's `tidy` has removed the parent folder in the meantime
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
