"""A file on its way: bytes are appended to `<name>.partial`, and only a verified file gets its name."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import TracebackType

from dmml.cohort.fetch.http_client import CHUNK
from dmml.cohort.fetch.remote_file import RemoteFile

SUFFIX = ".partial"
"""As gdc-client has it; `dmml cohort gdc` and `dmml extract` pass such files over."""


class PartFile:
    """The bytes of a file so far, with their md5. An existing part is continued.

    Args:
        folder: The output folder.
        file: The file.

    Attributes:
        offset: Number of bytes so far.
    """

    def __init__(self, folder: Path, file: RemoteFile):
        self._expected = file
        self.final = folder / file.path
        self.path = self.final.with_name(self.final.name + SUFFIX)
        self.final.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a+b", buffering=0)
        self._digest = hashlib.md5(usedforsecurity=False)
        self.offset = self._file.seek(0, os.SEEK_END)
        if self.offset > file.size:
            self.restart()

    def __enter__(self) -> PartFile:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        if self.offset == 0:
            self.path.unlink(missing_ok=True)

    def read_existing(self) -> None:
        """Compute the md5 of the part that an earlier run left."""
        self._file.seek(0)
        while block := self._file.read(CHUNK):
            self._digest.update(block)

    def append(self, chunk: bytes) -> None:
        """Append bytes."""
        self._file.write(chunk)
        self._digest.update(chunk)
        self.offset += len(chunk)

    def restart(self) -> None:
        """Drop all bytes."""
        self._file.truncate(0)
        self._digest = hashlib.md5(usedforsecurity=False)
        self.offset = 0

    def is_verified(self) -> bool:
        """Whether size and md5 are those that the server states; the size alone, if it states no md5."""
        return self.offset == self._expected.size and self._expected.md5 in (None, self._digest.hexdigest())

    def finish(self) -> None:
        """Give the file its name, after its bytes have reached the disk."""
        os.fsync(self._file.fileno())
        self._file.close()
        self.path.replace(self.final)


def md5_of(path: Path) -> str:
    """The md5 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
