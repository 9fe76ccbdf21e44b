"""How other tools cut their tiles: size, scale and unit, as stated by their files and folder names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dmml.slides.slide_error import SlideError
from dmml.slides.tiling.tile_geometry import MAX_OFF_SCALE, neighbour_distances, usual_distance
from dmml.slides.wsi.mpp import MAX_MPP, MIN_MPP

JOB_FOLDER = re.compile(r"^(?P<magnification>\d+(?:\.\d+)?)x_(?P<patch>\d+)px_\d+px_overlap$")
"""TRIDENT's name of the folder for one way of spec: `20x_256px_0px_overlap`"""
EXTRACTORS = ("extractor", "encoder")
"""Attributes that name the encoder; STAMP writes the first"""
_MICROMETRES = {"um": 1.0, "µm": 1.0, "μm": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometers": 1.0, "micrometre": 1.0, "micrometres": 1.0, "mm": 1e3, "nm": 1e-3}  # fmt: skip
_PIXELS = ("px", "pixel", "pixels")
_UNIT_NAMES = ("unit", "units", "coords_unit", "coordinate_unit")
_STAMP_UM, _STAMP_PX = 256.0, 224
"""Tiles of STAMP's first version, which did not write their size: 256 µm or 224 px, in which coordinates are given"""


@dataclass(frozen=True)
class TileSpec:
    """How tiles were cut, as far as a file or the user states it; None means unknown."""

    magnification: float | None = None
    """10 / (µm per pixel of a tile), nominal"""
    patch_px: int | None = None
    """Side of a tile in pixels of its magnification"""
    level0_px: float | None = None
    """Side of a tile in pixels of the finest level, or in µm if `in_um`"""
    level0_mpp: float | None = None
    """µm per pixel of the finest level; 1 if `in_um`"""
    mpp_source: str = ""
    in_um: bool = False
    """Whether the file's coordinates are in µm, so that the slide's scale does not matter"""
    contradiction: str = ""
    """Statements of the file about its scale that cannot all be true; `level0_mpp` is then unknown"""


@dataclass(frozen=True)
class CompleteTileSpec:
    """How tiles were cut, with every value known. See `TileSpec`."""

    magnification: int
    patch_px: int
    level0_px: float
    level0_mpp: float
    mpp_source: str
    in_um: bool


def tile_spec_of(path: Path, attributes: Mapping[str, Any], corner: np.ndarray) -> tuple[TileSpec, np.ndarray]:
    """Derive how tiles were cut from the attributes of TRIDENT, CLAM, STAMP and others, and from TRIDENT's folder name.

    Args:
        path: The file, for messages and its folder's name.
        attributes: Attributes of the file and of its coordinates.
        corner: (N, 2) coordinates as stored in the file.

    Returns:
        How tiles were cut, and the coordinates in pixels of the finest level, or in µm if `in_um`.

    Raises:
        SlideError: The unit is unknown, or coordinates in µm come without the size of a tile.
    """
    unit = _unit(path, attributes)
    if unit is None and (_number(attributes, "tile_size_um") or _is_early_stamp(attributes, corner)):
        unit = 1.0 if _number(attributes, "tile_size_um") else _STAMP_UM / _STAMP_PX
    if unit:
        side = _number(attributes, "tile_size_um") or unit * (_number(attributes, "tile_size", "patch_size") or 0)
        if not side and unit == _STAMP_UM / _STAMP_PX:
            side = _STAMP_UM
        if not side:
            raise SlideError(
                "no_tile_size",
                f"{path}: its coordinates are not pixels, and it does not state the size of a tile (tile_size_um); "
                "write that attribute into the file",
            )
        patch = _number(attributes, "tile_size_px") or (_STAMP_PX if "extractor" in attributes else None)
        return TileSpec(
            None, None if patch is None else int(patch), side, 1.0, "coordinates in µm", in_um=True
        ), corner * unit
    return _in_pixels(path, attributes), corner


def extractor_of(attributes: Mapping[str, Any]) -> str:
    """Return the encoder that a file names; empty if it names none."""
    names = (text_of(attributes.get(key)) for key in EXTRACTORS)
    return next((name for name in names if name), "")


def _in_pixels(path: Path, attributes: Mapping[str, Any]) -> TileSpec:
    folder = next((match for part in reversed(path.parts[:-1]) if (match := JOB_FOLDER.match(part))), None)
    magnification = _number(attributes, "target_magnification") or (float(folder["magnification"]) if folder else None)
    patch, level0 = _number(attributes, "patch_size", "tile_size_px"), _number(attributes, "patch_size_level0")
    if patch is None and folder:
        patch = float(folder["patch"])
    if level0 is None and patch is not None and magnification is None:
        # CLAM: patch_size is in pixels of the level patch_level, which are the finest pixels only for level 0.
        downsample = _number(attributes, "downsample")
        level0 = patch * downsample if downsample else patch if attributes.get("patch_level") == 0 else None
    mpp, source = _number(attributes, "level0_mpp", "mpp", "slide_mpp"), "attribute of the file"
    power = _number(attributes, "level0_magnification")
    by_size: float | None = None
    if mpp is None and magnification and patch and level0:
        mpp = by_size = 10.0 / magnification * patch / level0
        source = "nominal, from the magnification"
    if mpp is None and power:
        mpp, source = 10.0 / power, "nominal, from the magnification"
    folder_magnification = float(folder["magnification"]) if folder else None
    contradiction = _contradiction(folder_magnification, magnification, by_size, power)
    if contradiction or (mpp is not None and not MIN_MPP <= mpp <= MAX_MPP):
        mpp = None
    return TileSpec(
        magnification, None if patch is None else int(patch), level0, mpp, source if mpp else "", False, contradiction
    )


def _contradiction(
    folder: float | None, magnification: float | None, by_size: float | None, power: float | None
) -> str:
    """State which two statements about the scale cannot both be true; empty if all can.

    Args:
        folder: Magnification of the tiles by the folder's name; this and the others are None if nothing is stated.
        magnification: Magnification of the tiles by the file.
        by_size: µm per pixel of the finest level, computed from the size of a tile in its pixels.
        power: Magnification of the finest level by the file.
    """
    if folder and magnification and not _is_near(folder, magnification):
        return f"its folder says {folder:g}x and the file says {magnification:g}x"
    if by_size and power and not _is_near(10.0 / by_size, power):
        return f"level0_magnification is {power:g}, and by the size of its tiles it is {10.0 / by_size:.3g}"
    return ""


def _is_near(scale: float, other: float) -> bool:
    """Whether two scales are nominally the same: tools round them."""
    return 1 / MAX_OFF_SCALE <= scale / other <= MAX_OFF_SCALE


def _unit(path: Path, attributes: Mapping[str, Any]) -> float | None:
    """Length in µm of the unit that a file names; None for pixels, and if it names none."""
    name = next((text for key in _UNIT_NAMES if (text := text_of(attributes.get(key)))), "").lower()
    if not name or name in _PIXELS:
        return None
    if name not in _MICROMETRES:
        units = ", ".join((*_PIXELS[:1], "um", "mm", "nm"))
        raise SlideError(
            "unknown_unit", f"{path}: its coordinates are in {name!r}, which is not one of {units}; convert them"
        )
    return _MICROMETRES[name]


def _is_early_stamp(attributes: Mapping[str, Any], corner: np.ndarray) -> bool:
    """Whether a file is of STAMP's first version: it names its extractor, and its tiles are 224 units wide or apart."""
    if "extractor" not in attributes or any(
        key in attributes for key in ("patch_size", "patch_size_level0", "downsample")
    ):
        return False
    size = _number(attributes, "tile_size")
    return round(size if size else usual_distance(neighbour_distances(corner)) if len(corner) > 1 else 0) == _STAMP_PX


def _number(attributes: Mapping[str, Any], *names: str) -> float | None:
    """Return the first of these attributes that is a positive number."""
    for name in names:
        try:
            value = float(np.asarray(attributes[name]).reshape(-1)[0])
        except (KeyError, ValueError, TypeError, IndexError):
            continue
        if np.isfinite(value) and value > 0:
            return value
    return None


def text_of(value: object) -> str:
    """Return an attribute as text; empty if it is not a text."""
    value = value.item() if isinstance(value, np.ndarray | np.generic) and value.size == 1 else value
    value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return value.strip() if isinstance(value, str) else ""
