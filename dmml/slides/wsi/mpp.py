"""Determines how many µm a pixel of a slide spans, from the slide's metadata and never from the objective power."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dmml.errors import InputError
from dmml.slides.slide_error import SlideError

MIN_MPP, MAX_MPP = 0.1, 2.0
"""µm/px between which a scan of tissue is believed; 72 dpi, the default of many writers, would be 353 µm/px"""
MAX_ASYMMETRY = 0.01
"""Largest relative difference between µm/px across and down; up to it, their mean is taken"""
FROM_OPTION = "--mpp"
"""Source of a scale that the user gave for all slides"""
FROM_MANIFEST = "manifest"
"""Source of a scale that the user's manifest gives for a slide"""


def pixel_um(magnification: int) -> float:
    """µm per pixel of a magnification: 10x = 1.0, 20x = 0.5."""
    return 10.0 / magnification


@dataclass(frozen=True)
class Scale:
    """µm per pixel of a slide's finest level, and the property from which it was read."""

    mpp: float
    source: str


def resolve_mpp(name: str, properties: Mapping[str, str], user_mpp: float | None = None) -> Scale:
    """Determine the µm per pixel of a slide: from OpenSlide's property, then vendors' keys, then the user's value.

    Args:
        name: Slide, for messages.
        properties: Properties that OpenSlide (or another reader) returns.
        user_mpp: µm/px from the user; used only if the slide states no plausible value.

    Raises:
        SlideError: There is no plausible value (state `no_mpp`), or pixels are not square (`not_square`).
    """
    rejected = []
    for key, across, down in _candidates(properties):
        if not all(math.isfinite(value) and MIN_MPP <= value <= MAX_MPP for value in (across, down)):
            rejected.append(f"{key} says {across:.4g} µm/px, outside {MIN_MPP}–{MAX_MPP}")
            continue
        if abs(across - down) > MAX_ASYMMETRY * max(across, down):
            raise SlideError(
                "not_square", f"{name}: pixels are not square ({key}: {across:.4g} × {down:.4g} µm); resample the slide"
            )
        return Scale((across + down) / 2, key)
    if user_mpp is not None:
        return Scale(check_mpp(user_mpp), FROM_OPTION)
    reasons = "; ".join([*rejected, *_unreadable_keys(properties)]) or f"it has none of {', '.join(MPP_KEYS)}"
    raise SlideError("no_mpp", f"{name}: µm per pixel unknown ({reasons}); give it with --mpp, e.g. --mpp 0.25")


def _unreadable_keys(properties: Mapping[str, str]) -> Iterator[str]:
    """List the keys that are present but hold no length, with their values, for the message that refuses the slide."""
    readable = {key for key, _, _ in _candidates(properties)}
    for key in MPP_KEYS:
        if key in properties and key not in readable:
            unit = " without a unit of length" if key == "tiff.XResolution" else ", which is not a length"
            yield f"{key} says {properties[key]!r}{unit}"


def check_mpp(mpp: float) -> float:
    """Return a µm/px from the user, after checking that a scan of tissue can have it.

    Raises:
        InputError: The value lies outside 0.1–2.
    """
    if not (math.isfinite(mpp) and MIN_MPP <= mpp <= MAX_MPP):
        raise InputError(
            f"--mpp {mpp:g}: µm per pixel must lie between {MIN_MPP} and {MAX_MPP}; a 20x scan has about 0.5, a 40x scan 0.25"
        )
    return float(mpp)


def _micrometres(text: str) -> float:
    return float(text)


def _pixels_per_cm(text: str) -> float:
    return 1e4 / float(text)


def _millimetres(text: str) -> float:
    return 1e3 * float(text.split()[0].strip('"'))


_DIRECT = (
    ("openslide.mpp-x", "openslide.mpp-y", _micrometres),
    ("aperio.MPP", "aperio.MPP", _micrometres),
    ("hamamatsu.XResolution", "hamamatsu.YResolution", _pixels_per_cm),
    ("ventana.ScanRes", "ventana.ScanRes", _micrometres),
    ("philips.DICOM_PIXEL_SPACING", "philips.DICOM_PIXEL_SPACING", _millimetres),
    (
        "mirax.LAYER_0_LEVEL_0_SECTION.MICROMETER_PER_PIXEL_X",
        "mirax.LAYER_0_LEVEL_0_SECTION.MICROMETER_PER_PIXEL_Y",
        _micrometres,
    ),
    ("ome.PhysicalSizeX", "ome.PhysicalSizeY", _micrometres),
    ("imagej.PixelWidth", "imagej.PixelHeight", _micrometres),
)
_TIFF_UNITS = {"centimeter": 1e4, "inch": 25400.0}
MPP_KEYS = (*(across for across, _, _ in _DIRECT), "tiff.XResolution")


def _candidates(properties: Mapping[str, str]) -> Iterator[tuple[str, float, float]]:
    """Yield (key, µm/px across, µm/px down) of every key that is present and holds a number, most trusted first."""
    for across, down, convert in _DIRECT:
        if across in properties:
            try:
                x = convert(properties[across])
                yield across, x, convert(properties[down]) if down in properties else x
            except (ValueError, ZeroDivisionError, IndexError):
                continue
    unit = _TIFF_UNITS.get(properties.get("tiff.ResolutionUnit", ""))
    if unit and "tiff.XResolution" in properties:
        try:
            x = unit / float(properties["tiff.XResolution"])
            yield (
                "tiff.XResolution",
                x,
                unit / float(properties.get("tiff.YResolution", properties["tiff.XResolution"])),
            )
        except (ValueError, ZeroDivisionError):
            return
