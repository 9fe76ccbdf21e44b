"""The vectors of one file with the ids of their slides or patients, as returned by the readers of tables and arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dmml.errors import InputError


@dataclass
class FileVectors:
    """Vectors of one file."""

    path: Path
    ids: list[str]
    """Ids of slides or patients, one per row; an id may have several rows"""
    values: np.ndarray
    """(rows, D) float, NaN where a value is missing"""
    names: list[str] | None = None
    """Names of the features, if the file names them"""
    encoder: str = ""
    """Name of the encoder, if the file or its folder names it"""
    notes: list[str] = field(default_factory=list)
    """Lines for the user on what was read and how"""


def as_rows(path: Path, identifier: str, value: object) -> np.ndarray:
    """Convert one vector (D,), or several (N, D) or (1, N, D), to (N, D) float.

    Raises:
        InputError: It is not such an array of numbers.
    """
    array = np.asarray(value)
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.dtype.kind not in "fiu" or not array.size:
        raise InputError(
            f"{path}: {identifier} is {array.shape} {array.dtype}, not one vector (D,) or several (N, D) of numbers; leave it "
            "out of the file"
        )
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def stacked(path: Path, by_id: Iterable[tuple[str, np.ndarray]], encoder: str = "") -> FileVectors:
    """Combine (id, (N, D)) pairs into the vectors of one file.

    Raises:
        InputError: There are no pairs, or two ids have vectors of different widths.
    """
    pairs = list(by_id)
    if not pairs:
        raise InputError(f"{path}: holds no vector; give a file that does")
    width = pairs[0][1].shape[1]
    other = next((name for name, rows in pairs if rows.shape[1] != width), None)
    if other is not None:
        raise InputError(
            f"{path}: {pairs[0][0]} has {width} features, and {other} has another number; give files of one kind of vectors"
        )
    ids = [name for name, rows in pairs for _ in rows]
    return FileVectors(path, ids, np.concatenate([rows for _, rows in pairs]), encoder=encoder)


def listed(names: Sequence[str], max_names: int = 4) -> str:
    """List the first names for a message, and how many there are."""
    first = ", ".join(map(repr, names[:max_names]))
    return first if len(names) <= max_names else f"{first}, … ({len(names)} in all)"
