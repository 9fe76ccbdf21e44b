"""Opens a file as a slide: through OpenSlide, as a page of a TIFF that OpenSlide misses, or as a plain image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import openslide
from PIL import Image

from dmml.errors import reason_of
from dmml.slides.slide_error import SlideError
from dmml.slides.wsi.jpeg_reader import VENDORS, JpegReader
from dmml.slides.wsi.mpp import Scale, resolve_mpp
from dmml.slides.wsi.plain_image import PLAIN_SUFFIXES, PlainImage
from dmml.slides.wsi.tiff_pages import Page, page_notes, read_pages, slide_page
from dmml.slides.wsi.tiff_reader import TiffPageReader

_GENERIC = "generic-tiff"
"""OpenSlide's name for a TIFF without a vendor; of such a file, it reads the first page"""
_COMPRESSION = "Unsupported TIFF compression"
"""OpenSlide's message about a page that it cannot decode, such as JPEG 2000"""


class SlideHandle(Protocol):
    """What an open slide offers, whether it is an `openslide.OpenSlide` or a reader of dmml's."""

    @property
    def dimensions(self) -> tuple[int, int]:
        """(width, height) of the finest level, pixels."""

    @property
    def level_dimensions(self) -> Sequence[tuple[int, int]]:
        """(width, height) of every level, the finest first."""

    @property
    def level_downsamples(self) -> Sequence[float]:
        """How many times smaller each level is than the finest."""

    @property
    def properties(self) -> Mapping[str, str]:
        """What the file states about itself."""

    def read_region(self, location: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
        """Read pixels of a level as RGB or RGBA; `location` is in pixels of the finest level."""

    def close(self) -> None:
        """Close the file."""


@dataclass(frozen=True)
class OpenedSlide:
    """An open slide, and what was learnt when it was opened."""

    handle: SlideHandle
    reader: str
    """`openslide:<vendor>`, `tiff:page <n>` or `pillow`"""
    whole_fractions: bool = False
    """Whether its levels must be whole fractions of the finest, since only their sizes show how they are placed"""
    pages: Sequence[Page] = ()
    """Pages of a TIFF without a vendor"""
    notes: list[str] = field(default_factory=list)
    """Notes for the user on the choice of the page"""

    def scale(self, path: Path, user_mpp: float | None) -> Scale:
        """Return the µm per pixel that the slide's page states, or the user's value.

        Raises:
            SlideError: The page states no plausible value; the message names the pages that do.
        """
        try:
            return resolve_mpp(str(path), self.properties, user_mpp)
        except SlideError as error:
            if error.state != "no_mpp" or not (others := self._scales_of_other_pages()):
                raise
            raise SlideError(
                "no_mpp",
                f"{path}: {slide_page(self.pages)}, the slide, states no plausible µm per pixel, while {others}; "
                "the scale of one page is not used for another: give the slide's own with --mpp, e.g. --mpp 0.25",
            ) from error

    @property
    def properties(self) -> dict[str, str]:
        """Properties of the slide from its format, and from its page in a TIFF without a vendor."""
        properties = dict(self.handle.properties)
        if not self.pages:
            return properties
        of_page = slide_page(self.pages).properties(self.pages[0].description)
        if "ome.PhysicalSizeX" in of_page:
            # OpenSlide takes these from the resolution tags, which are not where OME keeps the pixel size.
            for name in ("openslide.mpp-x", "openslide.mpp-y"):
                properties.pop(name, None)
        return properties | of_page

    def _scales_of_other_pages(self) -> str:
        """List the scales of the pages, as in `page 1 (555 × 742 px) states 0.5 µm/px`."""
        statements = []
        for page in self.pages:
            try:
                scale = resolve_mpp("", page.properties(self.pages[0].description))
            except SlideError:
                continue
            statements.append(f"{page} states {scale.mpp:.4g} µm/px")
        return ", ".join(statements)


def open_slide(path: Path, user_mpp: float | None) -> OpenedSlide:
    """Open a file.

    Args:
        path: Any file that OpenSlide reads, any TIFF, or a plain image.
        user_mpp: µm per pixel from the user; a plain image needs it.

    Raises:
        SlideError: It cannot be opened (state `unopenable`), or is a plain image without a scale (`no_mpp`).
    """
    handle, vendor, openslide_error = None, "", None
    try:
        handle = openslide.OpenSlide(path)
        vendor = handle.properties.get("openslide.vendor", "unknown")
    except openslide.OpenSlideUnsupportedFormatError:
        pass
    except Exception as error:
        openslide_error = error
    if handle is not None and vendor != _GENERIC:
        return OpenedSlide(handle if vendor not in VENDORS else JpegReader(handle, path), f"openslide:{vendor}")
    pages = _pages(path) if openslide_error is None else _readable_pages(path, openslide_error)
    if openslide_error is not None and not pages:
        raise SlideError(
            "unopenable",
            f"{path}: OpenSlide cannot open it ({reason_of(openslide_error)}); fetch the file again, or convert it",
        ) from openslide_error
    if pages:
        return _open_tiff(path, pages, handle)
    if path.suffix.lower() not in PLAIN_SUFFIXES:
        raise SlideError("unopenable", f"{path}: OpenSlide does not know this format; convert it to a tiled TIFF")
    return _open_plain_image(path, user_mpp)


def _open_tiff(path: Path, pages: Sequence[Page], handle: openslide.OpenSlide | None) -> OpenedSlide:
    """Open a TIFF without a vendor: through OpenSlide if its first page is the slide, otherwise through its pages."""
    slide = slide_page(pages)
    notes = page_notes(pages, slide)
    if handle is not None and slide is pages[0] and slide.size == handle.dimensions:
        return OpenedSlide(JpegReader(handle, path), f"openslide:{_GENERIC}", True, pages, notes)
    if handle is not None:
        handle.close()
    return _open_page(path, slide, pages, notes)


def _readable_pages(path: Path, openslide_error: Exception) -> list[Page]:
    """Return the pages of a TIFF that OpenSlide refuses because of its first page, if it may be readable; else none.

    It may be readable if another page is the slide, or if only OpenSlide does not support the compression.
    """
    try:
        pages = read_pages(path)
    except (ValueError, OSError):
        return []
    return pages if pages and (slide_page(pages) is not pages[0] or _COMPRESSION in str(openslide_error)) else []


def _pages(path: Path) -> list[Page]:
    try:
        return read_pages(path)
    except (ValueError, OSError) as error:
        raise SlideError(
            "unopenable",
            f"{path}: is not a complete TIFF ({reason_of(error)}); check that the download is complete",
        ) from error


def _open_page(path: Path, slide: Page, pages: Sequence[Page], notes: list[str]) -> OpenedSlide:
    try:
        if not slide.is_tiled:
            return OpenedSlide(PlainImage(path, slide), "pillow", True, pages, notes)
        return OpenedSlide(TiffPageReader(path, slide, pages), f"tiff:page {slide.number}", True, pages, notes)
    except Exception as error:  # Pillow raises exceptions of many types
        raise SlideError(
            "unopenable",
            f"{path}: {slide} of {len(pages)}, the slide, cannot be opened ({reason_of(error)}); if the download is "
            f"complete, save that page alone, e.g. vips copy '{path.name}[page={slide.number - 1}]' "
            "'slide.tif[tile,pyramid,compression=jpeg]'",
        ) from error


def _open_plain_image(path: Path, user_mpp: float | None) -> OpenedSlide:
    try:
        handle = PlainImage(path)
    except Exception as error:
        raise SlideError(
            "unopenable",
            f"{path}: neither OpenSlide nor Pillow can open it ({reason_of(error)}); check that the download is complete",
        ) from error
    if user_mpp is None:
        handle.close()
        raise SlideError(
            "no_mpp", f"{path}: a plain image does not state its µm per pixel; give it with --mpp, e.g. --mpp 0.5"
        )
    return OpenedSlide(handle, "pillow")
