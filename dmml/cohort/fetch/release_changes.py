"""What a release of the GDC has changed since a folder's manifest was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dmml.cohort.fetch.fetch_manifest import Entry, FetchManifest
from dmml.cohort.fetch.part_file import SUFFIX
from dmml.cohort.fetch.remote_file import RemoteFile

WITHDRAWN = "withdrawn"
"""Folder within the output folder for files that the server no longer lists"""


@dataclass(frozen=True)
class ReleaseChanges:
    """Differences between a manifest and what the server lists now."""

    added: tuple[RemoteFile, ...] = ()
    """Files of kinds that were requested in full, and that the manifest lacks"""
    withdrawn: tuple[Entry, ...] = ()
    changed: tuple[Entry, ...] = ()
    """Files with another name, size or md5"""

    def __bool__(self) -> bool:
        return bool(self.added or self.withdrawn or self.changed)

    def describe(self) -> str:
        """The differences in words."""
        counts = {"added": self.added, "withdrawn": self.withdrawn, "changed": self.changed}
        return ", ".join(f"{len(files)} {name}" for name, files in counts.items() if files) or "no file changed"


def compare(manifest: FetchManifest, listed: Mapping[str, Sequence[RemoteFile]]) -> ReleaseChanges:
    """Compare a manifest with what the server lists now.

    Args:
        manifest: The manifest of the folder.
        listed: {kind: every file of the kind that the server has}.
    """
    added: list[RemoteFile] = []
    withdrawn: list[Entry] = []
    changed: list[Entry] = []
    for kind, files in listed.items():
        entries = manifest.of_kind(kind)
        if not entries:
            continue  # requested for the first time
        now = {file.id: Entry.of(file) for file in files}
        withdrawn += [entry for id, entry in entries.items() if id not in now]
        changed += [
            entry
            for id, entry in entries.items()
            if id in now and (entry.path, entry.size, entry.md5) != (now[id].path, now[id].size, now[id].md5)
        ]
        if kind != "slides" or manifest.n_slides is None:
            added += [file for file in files if file.id not in entries]
    return ReleaseChanges(tuple(added), tuple(withdrawn), tuple(changed))


def forget(manifest: FetchManifest, changes: ReleaseChanges) -> None:
    """Remove the entries of files that the server no longer lists, or lists with another content."""
    for entry in (*changes.withdrawn, *changes.changed):
        del manifest.entries[entry.id]


def move_withdrawn(changes: ReleaseChanges, folder: Path) -> None:
    """Move files that the server no longer lists, or lists with another content, to the folder `WITHDRAWN`."""
    for entry in (*changes.withdrawn, *changes.changed):
        source, target = folder / entry.path, folder / WITHDRAWN / entry.path
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
        source.with_name(source.name + SUFFIX).unlink(missing_ok=True)
        with suppress(OSError):  # other files of a DICOM series may stay
            source.parent.rmdir()
