"""Files and folders that exist completely or not at all, whatever interrupts their writing. Uses the standard library only."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: str | Path, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path to write to, and move it to `path` if the block ends without an error.

    The temporary file lies in the folder of `path`, which is created if necessary, and is hidden by a leading dot.
    It ends with the suffix of `path`, because some libraries append a suffix that they miss. Its name holds the
    process id, so that two processes that write the same file do not mix their contents; the last one wins.

    Args:
        path: The file to write. An existing file stays as it is until the new one is complete.
        durable: Wait until the content has reached the disk, so that it survives a power cut, too.

    Yields:
        Path of the temporary file. It is removed if the block raises.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield partial
        if durable:
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder to fill, and let it take the place of `path` if the block ends without an error.

    The temporary folder lies beside `path` and is hidden by a leading dot.

    Args:
        path: The folder to write. An existing one stays as it is until the new one is complete.

    Yields:
        Path of the temporary folder. It is removed if the block raises.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield partial
        partial.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_text(path: str | Path, text: str, newline: str | None = None) -> None:
    """Write a UTF-8 text file completely or not at all.

    Args:
        path: The file to write.
        text: Its content.
        newline: As in `open`; "" keeps line breaks as they are.
    """
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8", newline=newline)


def write_json(path: str | Path, content: object) -> None:
    """Write a JSON file, indented by two spaces, completely or not at all. Values that JSON lacks become strings."""
    write_text(path, json.dumps(content, indent=2, default=str) + "\n")
