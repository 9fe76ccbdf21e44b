"""Writes features to a GeoJSON file one by one, and into a zip file if there are many."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from dmml.atomic_files import atomic_write

MAX_UNZIPPED = 100_000
"""Number of shapes above which a file is zipped: QuPath reads both, and text of this size fills a mail or a disk"""
_NO_DATE = (1980, 1, 1, 0, 0, 0)
"""Date in zip files, the earliest that they can state: the same answer gives the same file"""


def write_features(path: Path, features: Iterable[str], n: int) -> Path:
    """Write a FeatureCollection, one feature per line, without holding it in memory.

    Args:
        path: File to write, ending with `.geojson`.
        features: The features as JSON.
        n: Their number.

    Returns:
        The file that was written: `path`, or with `.zip` appended if there are more than `MAX_UNZIPPED` features.
    """
    if n <= MAX_UNZIPPED:
        with atomic_write(path) as partial, partial.open("w", encoding="utf-8") as file:
            _write(file, features)
        return path
    zipped = path.with_name(f"{path.name}.zip")
    entry = zipfile.ZipInfo(path.name, _NO_DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    with (
        atomic_write(zipped) as partial,
        zipfile.ZipFile(partial, "w") as archive,
        archive.open(entry, "w", force_zip64=True) as binary,
        io.TextIOWrapper(binary, encoding="utf-8", write_through=False) as file,
    ):
        _write(file, features)
    return zipped


def _write(file: TextIO, features: Iterable[str]) -> None:
    file.write('{"type":"FeatureCollection","features":[')
    for index, feature in enumerate(features):
        file.write(f"{',' if index else ''}\n{feature}")
    file.write("\n]}\n")
