"""The list of files next to the store that were not extracted, and the reasons."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path

from dmml import atomic_files
from dmml.errors import InputError

COLUMNS = ("file", "state", "reason")


@dataclass(frozen=True)
class Failure:
    """A file without features: `state` is a keyword, `reason` a line for the user."""

    file: str
    state: str
    reason: str


_WITHOUT_FILE = ("missing", "bad_name")
"""States of entries whose file may not exist under that name"""


def write_text(path: str, text: str) -> None:
    """Write a text file, local or by URL; a local file is written completely or not at all.

    Raises:
        InputError: The local path cannot be written.
    """
    if "://" in path:
        import fsspec

        with fsspec.open(path, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        return
    try:
        atomic_files.write_text(path, text, newline="")
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); the store is complete, so run the same command again once the "
            "file can be written"
        ) from error


def remove(path: str) -> None:
    """Remove a text file, local or by URL, if it exists."""
    if "://" not in path:
        return Path(path).unlink(missing_ok=True)
    import fsspec

    files, name = fsspec.core.url_to_fs(path)
    if files.exists(name):
        files.rm_file(name)


def read_failures(path: str) -> list[Failure]:
    """Read the failures of earlier runs; none if the file does not exist or has other columns."""
    try:
        if "://" in path:
            import fsspec

            with fsspec.open(path, "r", encoding="utf-8", newline="") as file:
                text = file.read()
        else:
            text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    rows = csv.DictReader(io.StringIO(text))
    if tuple(rows.fieldnames or ()) != COLUMNS:
        return []
    return [Failure(*(row[column] or "" for column in COLUMNS)) for row in rows]


def record_failures(path: str, failures: Iterable[Failure], examined: Iterable[str]) -> list[Failure]:
    """Replace the rows of this run's files, keep those of other files that still exist, and write the list.

    Args:
        path: Path or URL of `failures.csv`.
        failures: Failures of this run.
        examined: Every file of this run, so that a file that now works leaves the list.

    Returns:
        All rows of the file, sorted by file.
    """
    failures = list(failures)
    of_this_run = {_absolute(file) for file in (*examined, *(failure.file for failure in failures))}
    kept = [
        failure
        for failure in read_failures(path)
        if _absolute(failure.file) not in of_this_run and (failure.state in _WITHOUT_FILE or not _is_gone(failure.file))
    ]
    rows = sorted([*kept, *failures], key=lambda failure: failure.file)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(astuple(row) for row in rows)
    write_text(path, text.getvalue())
    return rows


def _absolute(file: str) -> str:
    """Unify the spelling of a path, relative or not; links are not resolved, since a link counts as another file."""
    return os.path.abspath(file)


def _is_gone(file: str) -> bool:
    """Whether a file was renamed or removed from an existing folder. A folder that does not exist proves nothing."""
    return os.path.isdir(os.path.dirname(_absolute(file))) and not os.path.lexists(file)
