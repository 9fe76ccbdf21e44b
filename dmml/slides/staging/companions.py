"""Which further files a slide consists of, by the rules of the formats that OpenSlide reads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from dmml.errors import InputError

_KEY_FILES = (".vms", ".vmu")
"""Suffixes of Hamamatsu's text files that name the pictures next to them"""


def companions_of(name: str, names: Collection[str], read: Callable[[str], bytes]) -> list[str]:
    """Return the files that belong to a slide besides the one by which it is opened; DICOM is grouped by series instead.

    Args:
        name: The slide's file, as in `names`.
        names: All files, by their paths with slashes.
        read: Reads a file that is small.
    """
    path = PurePosixPath(name)
    suffix = path.suffix.lower()
    if suffix == ".mrxs":
        return sorted(other for other in names if other.startswith(f"{path.with_suffix('')}/"))
    if suffix in _KEY_FILES:
        values = {line.partition("=")[2].strip() for line in read(name).decode("utf-8", "replace").splitlines()}
        return sorted(
            other
            for other in names
            if PurePosixPath(other).parent == path.parent and PurePosixPath(other).name in values
        )
    return []


def dicom_series(files: Mapping[Path, Callable[[], BinaryIO]]) -> dict[Path, str | None]:
    """Read which DICOM series files belong to, from the beginnings of their headers.

    Args:
        files: {file: function that opens it}.

    Returns:
        {file: SeriesInstanceUID}; None for a file that is not DICOM.

    Raises:
        InputError: pydicom is not installed.
    """
    try:
        import pydicom
        from pydicom.errors import InvalidDicomError
        from pydicom.filereader import read_partial
    except ImportError as error:
        raise InputError(
            "DICOM slides on object storage: the package pydicom, which sorts their files into slides, is missing; "
            "pip install 'dmml[dicom]'"
        ) from error
    keyword = pydicom.datadict.tag_for_keyword("SeriesInstanceUID")
    series: dict[Path, str | None] = {}
    for path, open_file in files.items():
        try:
            with open_file() as file:
                header = read_partial(file, lambda tag, vr, length: tag > keyword)
            series[path] = str(header.SeriesInstanceUID)
        except (InvalidDicomError, AttributeError, EOFError):
            series[path] = None
    return series
