"""What a download would take: files, gigabytes, hours, and the space on the disk."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dmml.cohort.fetch.fetch_manifest import FetchManifest
from dmml.cohort.fetch.part_file import SUFFIX
from dmml.cohort.fetch.remote_file import SUFFIXES, RemoteFile
from dmml.errors import InputError

_GB = 1e9


@dataclass(frozen=True)
class FetchPlan:
    """The size of a download."""

    files: dict[str, tuple[int, int]]
    """{kind: number of files and their bytes}"""
    n_present: int
    """Files that are in the folder"""
    n_missing: int
    missing_bytes: int
    """Bytes that are still to come"""
    free_bytes: int

    def lines(self, rate: float) -> list[str]:
        """The plan in words.

        Args:
            rate: Megabytes per second.
        """
        lines = [f"{kind}: {n:,} files, {size / _GB:,.2f} GB" for kind, (n, size) in self.files.items()]
        if self.n_present:
            lines.append(f"in the folder: {self.n_present:,} files")
        hours = self.missing_bytes / (rate * 1e6) / 3600
        lines.append(
            f"to download: {self.n_missing:,} files, {self.missing_bytes / _GB:,.2f} GB, {hours:,.1f} hours at "
            f"{rate:g} MB/s; {self.free_bytes / _GB:,.1f} GB are free"
        )
        return lines

    def check_space(self, folder: Path) -> None:
        """Refuse a download for which the disk is too small.

        Raises:
            InputError: More bytes are to come than are free.
        """
        if self.missing_bytes > self.free_bytes:
            raise InputError(
                f"{folder}: {self.missing_bytes / _GB:,.2f} GB are to be downloaded, but {self.free_bytes / _GB:,.2f} GB are "
                "free; make room, name a folder on another disk with --out, or take fewer slides with --slides N"
            )


def make_plan(folder: Path, manifest: FetchManifest | None, files: Sequence[RemoteFile]) -> FetchPlan:
    """Compare the selected files with what is in the folder.

    Args:
        folder: The output folder, which need not exist.
        manifest: Its manifest. Without one, a file of the right size counts as present; it is verified later.
        files: Files to have.
    """
    sizes: dict[str, tuple[int, int]] = {}
    for kind in SUFFIXES:
        if of_kind := [file.size for file in files if file.kind == kind]:
            sizes[kind] = (len(of_kind), sum(of_kind))
    missing = missing_files(folder, manifest, files)
    unverified = [file for file in missing if _size(folder / file.path) == file.size]
    to_come = [file for file in missing if _size(folder / file.path) != file.size]
    parts = [_size((folder / file.path).with_name(file.name + SUFFIX)) for file in to_come]
    return FetchPlan(
        files=sizes,
        n_present=len(files) - len(missing) + len(unverified),
        n_missing=len(to_come),
        missing_bytes=sum(max(0, file.size - part) for file, part in zip(to_come, parts, strict=True)),
        free_bytes=shutil.disk_usage(_nearest_folder(folder)).free,
    )


def missing_files(folder: Path, manifest: FetchManifest | None, files: Sequence[RemoteFile]) -> list[RemoteFile]:
    """Files that are not in the folder, or were never verified."""
    entries = manifest.entries if manifest else {}
    return [file for file in files if file.id not in entries or not entries[file.id].is_present(folder)]


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _nearest_folder(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
