"""The pixel size that the description of a TIFF states, in addition to its resolution tags: Aperio, OME, ImageJ."""

from __future__ import annotations

import re

_APERIO = re.compile(r"(?:^|\|)\s*MPP\s*=\s*([0-9.]+)")
_OME_PIXELS = re.compile(r"<(?:\w+:)?Pixels\b[^>]*>")
_OME_ATTRIBUTE = re.compile(r'(\w+)\s*=\s*"([^"]*)"')
_MICROMETRES = {
    "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "\\u00B5m": 1.0, "pm": 1e-6, "Å": 1e-4, "nm": 1e-3,
    "mm": 1e3, "cm": 1e4, "m": 1e6, "in": 25400.0, "inch": 25400.0,
}  # fmt: skip
_IMAGEJ_UNIT = re.compile(r"^unit=(\S+)\s*$", re.MULTILINE)


def described_scale(description: str, size: tuple[int, int], pixels_per_unit: tuple[float, float]) -> dict[str, str]:
    """Parse the µm per pixel from a page's description, as properties that `resolve_mpp` knows.

    Args:
        description: Description of the page; OME describes all pages in that of the first.
        size: (width, height) of the page, which identifies an image of OME.
        pixels_per_unit: The page's resolution tags, for which ImageJ uses a unit of its choice; 0 if it has none.
    """
    if aperio := _APERIO.search(description):
        return {"aperio.MPP": aperio[1]}
    for element in _OME_PIXELS.findall(description):
        attributes = dict(_OME_ATTRIBUTE.findall(element))
        is_of_page = (attributes.get("SizeX"), attributes.get("SizeY")) == tuple(map(str, size))
        if is_of_page and "PhysicalSizeX" in attributes:
            return _ome_scale(attributes)
    unit = _IMAGEJ_UNIT.search(description) if description.startswith("ImageJ") else None
    if unit and min(pixels_per_unit) > 0:
        if unit[1] not in _MICROMETRES:
            return {"imagej.PixelWidth": f"{1 / pixels_per_unit[0]:g} {unit[1]}"}
        across, down = (_MICROMETRES[unit[1]] / count for count in pixels_per_unit)
        return {"imagej.PixelWidth": str(across), "imagej.PixelHeight": str(down)}
    return {}


def _ome_scale(attributes: dict[str, str]) -> dict[str, str]:
    properties = {}
    for axis in "XY":
        size, unit = attributes.get(f"PhysicalSize{axis}", ""), attributes.get(f"PhysicalSize{axis}Unit", "µm")
        try:
            properties[f"ome.PhysicalSize{axis}"] = str(float(size) * _MICROMETRES[unit])
        except (ValueError, KeyError):
            properties[f"ome.PhysicalSize{axis}"] = f"{size} {unit}"  # for the message that refuses it
    return properties
