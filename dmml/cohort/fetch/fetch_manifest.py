"""The list of a fetched cohort's files, kept in its folder: what was requested, from which release, and what is complete."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dmml._version import __version__
from dmml.atomic_files import write_json
from dmml.cohort.fetch.remote_file import RemoteFile
from dmml.errors import InputError

NAME = "fetch_manifest.json"
"""Name of the file in the output folder"""
CLINICAL = "clinical.json"
"""Name of the clinical data in the output folder, and their id in the manifest"""
_INTERVAL = 1.0
"""Seconds between two versions on disk while files arrive"""


@dataclass
class Entry:
    """A file of the manifest."""

    id: str
    kind: str
    """slides, rna or clinical"""
    path: str
    """Path within the output folder"""
    size: int
    md5: str | None
    is_complete: bool = False
    """Whether size and md5 were verified"""

    @classmethod
    def of(cls, file: RemoteFile) -> Entry:
        """An entry for a file that has not arrived."""
        return cls(file.id, file.kind, file.path.as_posix(), file.size, file.md5)

    def is_present(self, folder: Path) -> bool:
        """Whether the file was verified, and still has its size."""
        path = folder / self.path
        return self.is_complete and path.is_file() and path.stat().st_size == self.size


@dataclass
class FetchManifest:
    """Everything that a second run needs."""

    project: str
    source: str
    """gdc or idc: where slides come from"""
    releases: dict[str, str] = field(default_factory=dict)
    """{gdc or idc: name of the release}"""
    n_slides: int | None = None
    """Requested number of slides; None for all"""
    entries: dict[str, Entry] = field(default_factory=dict)
    """{id: entry}"""

    def of_kind(self, kind: str) -> dict[str, Entry]:
        """The entries of one kind."""
        return {id: entry for id, entry in self.entries.items() if entry.kind == kind}

    def include(self, files: Iterable[RemoteFile]) -> None:
        """Add files; an entry that states the same file stays."""
        for file in files:
            entry = Entry.of(file)
            previous = self.entries.get(file.id)
            if previous is None or (previous.path, previous.size, previous.md5) != (entry.path, entry.size, entry.md5):
                self.entries[file.id] = entry

    def write(self, folder: Path) -> None:
        """Write the manifest into the output folder."""
        files = [
            {
                "id": entry.id,
                "kind": entry.kind,
                "name": Path(entry.path).name,
                "path": entry.path,
                "size": entry.size,
                "md5": entry.md5,
                "state": "complete" if entry.is_complete else "requested",
            }
            for entry in self.entries.values()
        ]
        write_json(
            folder / NAME,
            {
                "dmml": __version__,
                "project": self.project,
                "source": self.source,
                "releases": self.releases,
                "n_slides": self.n_slides,
                "files": files,
            },
        )


class ManifestWriter:
    """Marks files as complete, and writes the manifest at most once a second.

    What a kill leaves unwritten is found again by the next run, which verifies files that already have their name.
    """

    def __init__(self, manifest: FetchManifest, folder: Path):
        self._manifest, self._folder = manifest, folder
        self._written = time.monotonic()

    def complete(self, file: RemoteFile) -> None:
        """Mark a file as complete."""
        self._manifest.entries[file.id].is_complete = True
        if time.monotonic() - self._written > _INTERVAL:
            self._manifest.write(self._folder)
            self._written = time.monotonic()


def read_manifest(folder: Path) -> FetchManifest | None:
    """Read the manifest of a folder; None if it has none.

    Raises:
        InputError: The file is damaged, or names paths outside of the folder.
    """
    path = folder / NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        entries = [_entry(row) for row in content["files"]]
        return FetchManifest(
            project=str(content["project"]),
            source=str(content["source"]),
            releases={str(key): str(value) for key, value in content["releases"].items()},
            n_slides=None if content["n_slides"] is None else int(content["n_slides"]),
            entries={entry.id: entry for entry in entries},
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: is damaged ({type(error).__name__}: {error}); delete it and run the command again, which verifies the "
            "files that are in the folder instead of downloading them"
        ) from None


def _entry(row: dict[str, Any]) -> Entry:
    path = Path(row["path"])
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{path} lies outside of the folder")
    md5 = None if row["md5"] is None else str(row["md5"])
    return Entry(str(row["id"]), str(row["kind"]), str(path), int(row["size"]), md5, row["state"] == "complete")
