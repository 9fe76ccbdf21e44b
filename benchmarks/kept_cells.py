"""Carries kept results from one machine to another, in one small file: checkpoints stay behind, risks are rounded.

Concordance depends on the order of risks alone, so that six significant digits are plenty.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from worlds_cells import write_json

DIGITS = 6
_DATE = (2000, 1, 1, 0, 0, 0)
"""The same for every entry, so that the same results give the same file"""


def pack(work: Path, file: Path) -> int:
    """Write all kept results below a folder into a zip file, completely or not at all; return their number."""
    partial, paths = file.with_name(f".{file.name}.part"), sorted(work.glob("*/*/*/*.json"))
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(partial, "w") as archive:
        for path in paths:
            content = json.dumps(_rounded(json.loads(path.read_text(encoding="utf-8"))))
            entry = zipfile.ZipInfo(path.relative_to(work).as_posix(), _DATE)
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED, 9)
    partial.replace(file)
    return len(paths)


def unpack(file: Path, work: Path) -> int:
    """Write the results of a zip file below a folder; those that are there already stay. Return the number of new ones."""
    new = 0
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            world, patients, seed, result = Path(name).parts  # four parts, or this is another file
            path = work / world / patients / seed / result
            if ".." in Path(name).parts or path.is_file():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, json.loads(archive.read(name)))
            new += 1
    return new


def _rounded(value: Any) -> Any:
    """A JSON value with all lists of numbers rounded; single numbers stay."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [float(f"{each:.{DIGITS}g}") if isinstance(each, float) else _rounded(each) for each in value]
    return value
