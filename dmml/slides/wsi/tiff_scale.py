"""The pixel size that the description of a TIFF states, in addition to its resolution tags: Aperio, OME, ImageJ.

OME-XML describes all images of a file in the description of the first page; the attributes of `Pixels` and `TiffData`
are those of the schema of 2016-06 (https://docs.openmicroscopy.org/ome-model/6.3.1/ome-tiff/specification.html).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

_APERIO = re.compile(r"(?:^|\|)\s*MPP\s*=\s*([0-9.]+)")
_OME = re.compile(r"<(?:\w+:)?OME[\s>]")
_DECLARES_ENTITIES = re.compile(r"<!(?:DOCTYPE|ENTITY)")
_MICROMETRES = {
    "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "\\u00B5m": 1.0, "\N{REPLACEMENT CHARACTER}m": 1.0,
    "pm": 1e-6, "Å": 1e-4, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "dm": 1e5, "m": 1e6, "thou": 25.4, "in": 25400.0,
    "inch": 25400.0,
}  # fmt: skip
"""Unit → µm. The replacement character stands for a µ that was not written as UTF-8; no other unit would give it"""
_IMAGEJ_UNIT = re.compile(r"^unit=(\S+)\s*$", re.MULTILINE)


def is_ome(description: str) -> bool:
    """Whether a description is OME-XML."""
    return _OME.search(description) is not None


def described_scale(
    description: str, size: tuple[int, int], pixels_per_unit: tuple[float, float], number: int = 1
) -> dict[str, str]:
    """Parse the µm per pixel from a page's description, as properties that `resolve_mpp` knows.

    Args:
        description: Description of the page; OME describes all pages in that of the first.
        size: (width, height) of the page.
        pixels_per_unit: The page's resolution tags, for which ImageJ uses a unit of its choice; 0 if it has none.
        number: Number of the page, counted from 1, by which OME names the pages of an image.
    """
    if aperio := _APERIO.search(description):
        return {"aperio.MPP": aperio[1]}
    if is_ome(description):
        return _ome_scale(description, size, number - 1)
    unit = _IMAGEJ_UNIT.search(description) if description.startswith("ImageJ") else None
    if unit and min(pixels_per_unit) > 0:
        if unit[1] not in _MICROMETRES:
            return {"imagej.PixelWidth": f"{1 / pixels_per_unit[0]:g} {unit[1]}"}
        across, down = (_MICROMETRES[unit[1]] / count for count in pixels_per_unit)
        return {"imagej.PixelWidth": str(across), "imagej.PixelHeight": str(down)}
    return {}


def _ome_scale(description: str, size: tuple[int, int], ifd: int) -> dict[str, str]:
    """Return the pixel size of the image that a page belongs to, or the text for the message that refuses it.

    Args:
        description: OME-XML.
        size: (width, height) of the page; images of other sizes are not of this page, as after resampling by a program
            that keeps descriptions.
        ifd: Index of the page, counted from 0.
    """
    try:
        if _DECLARES_ENTITIES.search(description):
            raise ElementTree.ParseError
        root = ElementTree.fromstring(description[description.index("<") :].rstrip("\0 \r\n"))
    except ElementTree.ParseError:
        return {"ome.PhysicalSizeX": "damaged OME-XML"}
    of_size = [
        pixels
        for pixels in root.iterfind("{*}Image/{*}Pixels")
        if (pixels.get("SizeX"), pixels.get("SizeY")) == tuple(map(str, size))
    ]
    of_page = [pixels for pixels in of_size if any(ifd in pages for pages in _pages_of(pixels, root.get("UUID")))]
    scales = [scale for pixels in of_page or of_size if (scale := _physical_size(pixels))]
    if any(scale != scales[0] for scale in scales):
        stated = " or ".join(dict.fromkeys(scale["ome.PhysicalSizeX"] for scale in scales))
        return {"ome.PhysicalSizeX": f"{stated}, for images of the same size"}
    return scales[0] if scales else {}


def _pages_of(pixels: ElementTree.Element, file_id: str | None) -> Iterator[range]:
    """Yield the indices of the pages of an image in this file, by the defaults of the schema for what is left out."""
    for data in pixels.iterfind("{*}TiffData"):
        of_file = data.find("{*}UUID")
        if of_file is not None and file_id and (of_file.text or "").strip() != file_id:
            continue
        try:
            first = int(data.get("IFD", 0))
            count = int(data.get("PlaneCount", 1 if "IFD" in data.attrib else 2**31))
        except ValueError:
            continue
        yield range(first, first + count)


def _physical_size(pixels: ElementTree.Element) -> dict[str, str]:
    """Return the pixel size of an image as properties; a width without a height is that of square pixels."""
    properties = {}
    for axis in "XY":
        size = pixels.get(f"PhysicalSize{axis}")
        if size is None:
            continue
        unit = pixels.get(f"PhysicalSize{axis}Unit", "µm").strip()
        try:
            properties[f"ome.PhysicalSize{axis}"] = str(float(size) * _MICROMETRES[unit])
        except (ValueError, KeyError):
            properties[f"ome.PhysicalSize{axis}"] = f"{size} {unit}"  # for the message that refuses it
    return properties if "ome.PhysicalSizeX" in properties else {}
