"""A table of slides: which of those in the folders are meant, and the µm per pixel of those that do not tell theirs."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dmml.errors import InputError
from dmml.slides.mpp import GIVEN, HIGHEST, LISTED, LOWEST
from dmml.slides.reader import PLAIN_SUFFIXES
from dmml.slides.survey import SUFFIXES

NAMES = ("slide_id", "slide", "filename", "file", "wsi")
"""Columns that may name the slide, by file name with or without folder and ending"""


@dataclass(frozen=True)
class Manifest:
    """What a table says; without a table, every slide is meant."""

    path: str = ""
    mpp: dict[str, float | None] = field(default_factory=dict)
    """{slide_id: µm per pixel, or None}"""

    def select(self, slides: Iterable[Path]) -> tuple[list[Path], list[str]]:
        """The slides that are meant, and the names in the table that no file has."""
        slides = list(slides)
        if not self.path:
            return slides, []
        there = {path.stem for path in slides}
        return [path for path in slides if path.stem in self.mpp], [name for name in self.mpp if name not in there]

    def mpp_of(self, slide_id: str, otherwise: float | None) -> float | None:
        """µm per pixel of a slide: the table's, or the one given for all."""
        return self.mpp.get(slide_id) or otherwise

    def mpp_from(self, slide_id: str) -> str:
        """Where `mpp_of` has it from: `mpp.LISTED` or `mpp.GIVEN`."""
        return LISTED if self.mpp.get(slide_id) else GIVEN


def read_manifest(path: str | Path | None) -> Manifest:
    """Read a CSV with a column that names slides, and perhaps `mpp`.

    Raises:
        InputError: No such file or column, or an mpp that no scan has.
    """
    if path is None:
        return Manifest()
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            columns = {(name or "").strip().lower(): name for name in rows.fieldnames or ()}
            name = next((columns[n] for n in NAMES if n in columns), None)
            if name is None:
                raise InputError(
                    f"--manifest {path}: no column {' or '.join(NAMES)} among {', '.join(columns) or 'none'}"
                )
            mpp: dict[str, float | None] = {}
            for number, row in enumerate(rows, start=2):
                if row[name] and row[name].strip():
                    told = (row.get(columns.get("mpp", "")) or "").strip()
                    mpp[_stem(row[name].strip())] = _mpp(f"--manifest {path}, row {number}", told)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"--manifest {path}: cannot be read ({error})") from error
    if not mpp:
        raise InputError(f"--manifest {path}: names no slide")
    return Manifest(str(path), mpp)


def _stem(name: str) -> str:
    path = Path(name)
    return path.stem if path.suffix.lower() in (*SUFFIXES, *PLAIN_SUFFIXES) else path.name


def _mpp(where: str, text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not LOWEST <= value <= HIGHEST:
        raise InputError(f"{where}: mpp {text} is no µm per pixel in {LOWEST}–{HIGHEST}; leave it empty if unknown")
    return value
