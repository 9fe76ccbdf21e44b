"""A file that a server offers. Whatever the server says of it is checked before it becomes a path or a promise."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dmml.errors import InputError

SUFFIXES = {"slides": (".svs", ".dcm"), "rna": (".tsv",)}
"""Endings that the files of each kind have; each kind is a folder of the output folder."""
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MD5 = re.compile(r"[0-9a-f]{32}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+=,()-]{0,199}")
"""Names that are one plain file in every file system: no separator, no leading dot, no control character"""


@dataclass(frozen=True)
class RemoteFile:
    """A file to download. Build it with `checked_file`."""

    id: str
    """The server's id of the file"""
    name: str
    kind: str
    """A key of `SUFFIXES`"""
    folder: str
    """Folder of the file within the folder of its kind"""
    size: int
    """Bytes"""
    md5: str | None
    """None if the server states none; then only the size can be checked"""
    url: str
    sheet_row: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Row of the GDC's sample sheet, for RNA"""

    @property
    def path(self) -> Path:
        """Path within the output folder."""
        return Path(self.kind, self.folder, self.name)


def checked_file(
    id: str,
    name: object,
    kind: str,
    folder: str,
    size: object,
    md5: object,
    url: str,
    sheet_row: Mapping[str, str] | None = None,
) -> RemoteFile:
    """Make a `RemoteFile` of what a server states.

    Raises:
        InputError: The name is no plain file name with a suffix of its kind, or size or md5 are none.
    """
    if not isinstance(name, str) or not is_plain_name(name) or not name.lower().endswith(SUFFIXES[kind]):
        raise InputError(
            f"the server calls the file {id} {name!r}, which is no name of {kind} ({', '.join(SUFFIXES[kind])}); nothing was "
            "downloaded"
        )
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise InputError(f"the server states the size of {name} as {size!r}, not in bytes; nothing was downloaded")
    if md5 is not None and not (isinstance(md5, str) and _MD5.fullmatch(md5.lower())):
        raise InputError(f"the server states {md5!r} as md5 of {name}, which is none; nothing was downloaded")
    return RemoteFile(id, name, kind, folder, size, md5.lower() if md5 else None, url, sheet_row or {})


def is_plain_name(name: str) -> bool:
    """Whether a name is that of one file, on every file system, and can neither leave its folder nor hide in it."""
    return bool(_NAME.fullmatch(name)) and not name.endswith((".", " "))


def is_uuid(text: object) -> bool:
    """Whether a text is a UUID in lower case, as the GDC writes its ids."""
    return isinstance(text, str) and bool(_UUID.fullmatch(text))
