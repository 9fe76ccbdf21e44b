"""A table of slides: which slides of the folders to use, and the µm per pixel of those that do not state it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dmml.cohort.id_matching import decimal_variant
from dmml.errors import InputError
from dmml.slides.discovery.find import SUFFIXES
from dmml.slides.wsi.mpp import FROM_MANIFEST, FROM_OPTION, MAX_MPP, MIN_MPP
from dmml.slides.wsi.plain_image import PLAIN_SUFFIXES

if TYPE_CHECKING:
    from dmml.cohort.tables.text_table import TextTable

NAMES = ("slide_id", "slide", "filename", "file", "wsi")
"""Columns that may name the slide, by file name with or without folder and suffix"""


@dataclass
class Selection:
    """The files to use among those in the user's folders."""

    slides: list[Path]
    unscaled: list[Path]
    """Plain images without a scale"""
    missing: list[str] = field(default_factory=list)
    """Names in the table without a matching file"""


@dataclass(frozen=True)
class Manifest:
    """The content of a table; without a table, every slide is used."""

    path: str = ""
    mpp: dict[str, float | None] = field(default_factory=dict)
    """{slide_id: µm per pixel, or None}"""

    def select(self, slides: Sequence[Path], unscaled: Sequence[Path] = ()) -> Selection:
        """Select the files that the table names.

        Args:
            slides: Slides, and plain images of known scale.
            unscaled: Plain images whose µm per pixel is unknown.

        Raises:
            InputError: There are files, and the table names none of them.
        """
        if not self.path:
            return Selection(list(slides), list(unscaled))
        named, named_unscaled = (
            [path for path in paths if self._name(path.stem) in self.mpp] for paths in (slides, unscaled)
        )
        present = {self._name(path.stem) for path in (*named, *named_unscaled)}
        missing = [name for name in self.mpp if name not in present]
        if not present and (files := [*slides, *unscaled]):
            raise InputError(
                f"--manifest {self.path}: none of the slides that it names was found ({missing[0]!r} in the "
                f"manifest, {files[0].stem!r} in the folder); name slides by their files"
            )
        return Selection(named, named_unscaled, missing)

    def _name(self, slide_id: str) -> str:
        """Return the table's name of a slide: `1040.0` may be the slide `1040`."""
        other = decimal_variant(slide_id)
        return other if slide_id not in self.mpp and other in self.mpp else slide_id

    def mpp_of(self, slide_id: str, default: float | None) -> float | None:
        """µm per pixel of a slide from the table, or else the value given for all slides."""
        return self.mpp.get(self._name(slide_id)) or default

    def mpp_from(self, slide_id: str) -> str:
        """Source of the value of `mpp_of`: `mpp.FROM_MANIFEST` or `mpp.FROM_OPTION`."""
        return FROM_MANIFEST if self.mpp.get(self._name(slide_id)) else FROM_OPTION


def read_manifest(path: str | Path | None) -> Manifest:
    """Read a table (CSV or TSV) with a column that names slides, and optionally a column `mpp`.

    Raises:
        InputError: The file or the column does not exist, there is no slide, or an mpp is one that no scan has.
    """
    if path is None:
        return Manifest()
    from dmml.cohort.tables.text_table import open_table  # imports pandas, which few extractions need

    try:
        return Manifest(str(path), _read(open_table(path)))
    except InputError as error:
        raise InputError(f"--manifest {error}") from error


def _read(table: TextTable) -> dict[str, float | None]:
    """Read {slide_id: µm per pixel, or None} from the table's rows."""
    from dmml.cohort.tables.id_columns import read_ids
    from dmml.cohort.tables.text_table import read_rows, require_column

    columns = {name.lower(): name for name in table.columns}
    name = next((columns[n] for n in NAMES if n in columns), None)
    if name is None:
        raise InputError(
            f"{table.path}: no column {' or '.join(NAMES)} among {', '.join(table.columns)}; call the column of slides slide_id"
        )
    needed = [require_column(table, column, "manifest") for column in (name, columns.get("mpp")) if column]
    rows = read_rows(table, needed).dropna(subset=[name])
    names = read_ids(table, rows[name], patients=False)
    texts = rows[needed[1]] if len(needed) > 1 else [None] * len(rows)
    mpp: dict[str, float | None] = {}
    for index, slide, text in zip(rows.index, names, texts, strict=True):
        where, stem = f"{table.path}, line {table.line_of(index)}", _stem(slide)
        value = None if text is None else _mpp(where, text)
        if stem in mpp and not _agree(mpp[stem], value):
            raise InputError(f"{where}: {stem} has mpp {text} here and {mpp[stem]:g} above; remove one of the rows")
        mpp[stem] = value if mpp.get(stem) is None else mpp[stem]
    if not mpp:
        raise InputError(f"{table.path}: names no slide; write one per row in the column {name}")
    return mpp


def _agree(one: float | None, other: float | None) -> bool:
    """Whether two rows of a slide agree; a row without a value agrees with any other."""
    return one is None or other is None or math.isclose(one, other)


def _stem(name: str) -> str:
    path = Path(name)
    return path.stem if path.suffix.lower() in (*SUFFIXES, *PLAIN_SUFFIXES) else path.name


def _mpp(where: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        from dmml.cohort.tables.text_table import describe_non_number

        raise InputError(f"{where}: mpp {text!r} {describe_non_number(text)}; leave it empty if unknown") from None
    if not MIN_MPP <= value <= MAX_MPP:
        raise InputError(
            f"{where}: mpp {text} does not lie between {MIN_MPP} and {MAX_MPP} µm per pixel; leave it empty if unknown"
        )
    return value
