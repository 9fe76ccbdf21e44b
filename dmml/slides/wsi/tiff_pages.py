"""The pages of a TIFF: which of them is the slide, and the pixel size that each one states."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL.TiffImagePlugin import ImageFileDirectory_v2

from dmml.slides.wsi.tiff_scale import described_scale, is_ome

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BIG = (b"II+\0", b"MM\0+")
_WIDTH, _HEIGHT, _SUBFILE, _TILE_OFFSETS, _TILE_WIDTH = 256, 257, 254, 324, 322
_DESCRIPTION, _X_RESOLUTION, _Y_RESOLUTION, _UNIT = 270, 282, 283, 296
_UNITS = {2: "inch", 3: "centimeter"}
_MIN_SLIDE_SHARE = 0.25
"""Share of the slide's pixels from which another full-resolution page is mentioned: labels and macros have fewer"""

_MAX_STRIP_RATIO = 16
"""A page in strips with more than this many times the pixels of the largest tiled page is not its macro image"""


@dataclass(frozen=True, eq=False)
class Page:
    """One directory of a TIFF."""

    number: int
    """Counted from 1, as in viewers"""
    tags: ImageFileDirectory_v2
    header: bytes
    """First bytes of the file, which state the byte order"""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return int(self.tags[_WIDTH]), int(self.tags[_HEIGHT])

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.size[0] * self.size[1]

    @property
    def is_tiled(self) -> bool:
        """Whether it is cut into tiles; macro images and labels often come in strips."""
        return _TILE_OFFSETS in self.tags and _TILE_WIDTH in self.tags

    @property
    def is_reduced(self) -> bool:
        """Whether it is marked as a smaller version of another page."""
        return bool(int(self.tags.get(_SUBFILE, 0)) & 1)

    @property
    def description(self) -> str:
        """ImageDescription of the page."""
        text = self.tags.get(_DESCRIPTION, "")
        # Pillow reads the tag as Latin-1, and OME writes UTF-8 into it, as in "µm".
        return (text if isinstance(text, bytes) else str(text).encode("latin-1", "replace")).decode("utf-8", "replace")

    def properties(self, shared_description: str = "") -> dict[str, str]:
        """What the page states about its pixel size, under OpenSlide's property names and a few additional ones.

        Args:
            shared_description: Description of the first page, in which OME describes all pages.
        """
        across, down = (_number(self.tags.get(tag)) for tag in (_X_RESOLUTION, _Y_RESOLUTION))
        properties = {} if across is None else {"tiff.XResolution": str(across)}
        properties |= {} if down is None else {"tiff.YResolution": str(down)}
        properties["tiff.ResolutionUnit"] = _UNITS.get(int(self.tags.get(_UNIT, 2)), "none")
        shared_ome = shared_description if is_ome(shared_description) else ""
        for text in (self.description, shared_ome):
            properties |= described_scale(text, self.size, (across or 0.0, down or 0.0), self.number)
        return properties

    def __str__(self) -> str:
        return f"page {self.number} ({self.size[0]} × {self.size[1]} px{'' if self.is_tiled else ', not tiled'})"


def _number(value: object) -> float | None:
    try:
        return None if value is None else float(value)  # type: ignore[arg-type]  # what has no number raises TypeError
    except (TypeError, ValueError, ZeroDivisionError):
        return None


def read_pages(path: str | Path) -> list[Page]:
    """Read the directory of every page of a TIFF, in the order of the file; none if the file is not a TIFF.

    Raises:
        ValueError, OSError: The directories are damaged.
    """
    with open(path, "rb") as file:
        header = file.read(8)
        if header[:4] not in _MAGIC:
            return []
        if header[:4] in _BIG:
            header += file.read(8)
        return list(_directories(file, header))


def _directories(file: BinaryIO, header: bytes) -> Iterator[Page]:
    try:
        offset, seen = _first_offset(header), set[int]()
        while offset and offset not in seen:  # a damaged chain may lead back
            seen.add(offset)
            file.seek(offset)
            tags = _empty_directory(header)
            with warnings.catch_warnings(action="ignore"):  # Pillow warns of a damaged directory and leaves it empty
                tags.load(file)
            if not len(tags):
                raise ValueError(f"page {len(seen)} is damaged")
            offset = tags.next
            if _WIDTH in tags and _HEIGHT in tags:
                yield Page(len(seen), tags, header)
    except (KeyError, TypeError, IndexError, SyntaxError, OverflowError, struct.error) as error:
        raise ValueError(f"its directory of pages is damaged ({error})") from error


def _first_offset(header: bytes) -> int:
    """Return the offset of the first directory."""
    return int.from_bytes(
        header[8:16] if header[:4] in _BIG else header[4:8], "little" if header[:2] == b"II" else "big"
    )


def _empty_directory(header: bytes) -> ImageFileDirectory_v2:
    """Return an empty directory with the file's byte order and width of offsets, to be loaded."""
    order = header[:2]
    tags = ImageFileDirectory_v2(order + (b"*\0" if order == b"II" else b"\0*") + bytes(4))
    tags._bigtiff = header[:4] in _BIG  # Pillow itself detects this only in little-endian files
    return tags


def slide_page(pages: Sequence[Page]) -> Page:
    """Return the page that is the slide: the largest tiled one, the first among equals.

    It is the largest of all pages if none is tiled, or if the tiled ones are so much smaller that they can only be
    labels.
    """
    largest = max(pages, key=lambda page: page.pixels)
    tiled = max((page for page in pages if page.is_tiled), key=lambda page: page.pixels, default=largest)
    return tiled if _MAX_STRIP_RATIO * tiled.pixels >= largest.pixels else largest


def page_notes(pages: Sequence[Page], slide: Page) -> list[str]:
    """Notes for the user on the choice: that it is not the first page, and which others could be slides, too."""
    others = [page for page in pages if page is not slide and _could_be_a_slide(page, slide)]
    notes = []
    if slide is not pages[0]:
        kind = "the largest tiled page" if slide.is_tiled else "the largest page"
        first = "" if pages[0] in others else f"; {pages[0]} is taken for a label or macro image"
        notes.append(f"{slide} of {len(pages)} is read, {kind}{first}")
    if same_size := [page for page in others if page.size == slide.size]:
        notes.append(f"{len(same_size) + 1} pages are equally large; only {slide} is read, not {_names(same_size)}")
    if rest := [page for page in others if page.size != slide.size]:
        notes.append(f"{slide} is read; {_names(rest)} may show other tissue and {_is_are(rest)} not read")
    return notes


def _could_be_a_slide(page: Page, slide: Page) -> bool:
    """Whether a page is of the slide's kind and size, and does not look like one of its levels."""
    if page.is_reduced or page.is_tiled != slide.is_tiled or page.pixels < _MIN_SLIDE_SHARE * slide.pixels:
        return False
    halved = all(abs(side / 2 - small) <= 1 for side, small in zip(slide.size, page.size, strict=True))
    return not halved


def _names(pages: Sequence[Page]) -> str:
    first = ", ".join(map(str, pages[:3]))
    return f"{first} and {len(pages) - 3} more" if len(pages) > 3 else first


def _is_are(pages: Sequence[Page]) -> str:
    return "is" if len(pages) == 1 else "are"
