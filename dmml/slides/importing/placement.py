"""Checks that statements of files and users about imported tiles agree with each other and with the positions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dmml.slides.importing.cutting import Cutting
from dmml.slides.tiling.tile_geometry import (
    SLACK,
    are_apart,
    neighbour_distances,
    overlap_by_design,
    overlapping,
    scale_problems,
    usual_distance,
)
from dmml.slides.wsi.mpp import SlideError

_MAGNIFICATIONS = (5, 10, 20, 40)
_NEAR = 0.15
"""Relative difference up to which a magnification is rounded to a nominal one"""


def complete_cutting(path: Path, told: Cutting, given: Cutting) -> Cutting:
    """Combine what the file and the user state, and derive the values that follow from it; nothing is guessed.

    Args:
        path: The file, for messages.
        told: Stated by the file. It takes precedence over the user, except for the µm per pixel of the finest level,
            which a tool may have rounded. If its coordinates are in µm, the user's µm per pixel is not used.
        given: Stated by the user.

    Raises:
        SlideError: A value is known neither from the file nor from the user.
    """
    magnification = told.magnification or given.magnification
    if magnification and _nominal(magnification) is None:
        raise SlideError("no_magnification", f"{path}: {magnification:g}x is none of 5x, 10x, 20x, 40x; leave it out")
    mpp = told.level0_mpp if told.in_um else given.level0_mpp or told.level0_mpp
    level0, patch = told.level0_px or given.level0_px, told.patch_px or given.patch_px
    if mpp is None:
        raise SlideError(
            "no_mpp",
            f"{path}: µm per pixel of the finest level unknown{told.contradiction and f' ({told.contradiction})'}; "
            "give it with --mpp, e.g. --mpp 0.25",
        )
    if level0 is None:
        raise SlideError(
            "no_tile_size", f"{path}: side of a tile in pixels of the finest level unknown; give it with --level0-px"
        )
    if not magnification and not patch:
        raise SlideError(
            "no_magnification",
            f"{path}: its magnification is unknown; give it with --magnification, or the pixels of a tile with --patch-px",
        )
    magnification = magnification or 10.0 / (level0 * mpp / patch)
    if (nominal := _nominal(magnification)) is None:
        size = f"{level0:g} µm" if told.in_um else f"{level0:g} px of {mpp:g} µm"
        options = "" if told.in_um else ", --mpp, --level0-px and --patch-px"
        raise SlideError(
            "no_magnification",
            f"{path}: tiles of {size} that are scaled to {patch} px have {magnification:.3g}x, which is none of 5x, 10x, "
            f"20x, 40x; check what the file states{options}",
        )
    patch = patch or round(level0 * mpp / (10.0 / nominal))
    source = told.mpp_source if told.in_um else given.mpp_source or told.mpp_source
    return Cutting(nominal, patch, level0, mpp, source, told.in_um)


def _nominal(magnification: float) -> int | None:
    """Round a magnification to the nominal one; None if it is near none of those that a store may have."""
    return next((m for m in _MAGNIFICATIONS if abs(magnification / m - 1) < _NEAR), None)


def unused_options(told: Cutting, given: Cutting) -> list[str]:
    """List one line per option that contradicts the file and is therefore not used."""
    pairs = {
        "--level0-px": (told.level0_px, given.level0_px),
        "--patch-px": (told.patch_px, given.patch_px),
        "--magnification": (told.magnification, given.magnification),
        "--mpp": (told.level0_mpp if told.in_um else None, given.level0_mpp),
    }
    return [
        f"{option} {ours:g} is not used, since the file states {'coordinates in µm' if told.in_um else f'{theirs:g}'}"
        for option, (theirs, ours) in pairs.items()
        if theirs and ours and abs(ours / theirs - 1) > SLACK
    ]


def check_placement(path: Path, corner: np.ndarray, cutting: Cutting, from_file: bool) -> None:
    """Refuse tiles that overlap, or that cannot have the stated size.

    Args:
        path: The file, for messages.
        corner: (N, 2) in the unit of the cutting.
        cutting: As returned by `complete_cutting`.
        from_file: Whether the file states the side of a tile, rather than the user.

    Raises:
        SlideError: The message names what disagrees (state `overlap` or `impossible_scale`).
    """
    side, mpp = cutting.level0_px, cutting.level0_mpp
    unit = "µm" if cutting.in_um else "px"
    nominal = cutting.patch_px * 10.0 / cutting.magnification
    problems = scale_problems(None, side * mpp, nominal, corner * mpp)
    if problems:
        known = "" if cutting.in_um else f" ({side:g} px of {mpp:g} µm)"
        raise SlideError(
            "impossible_scale",
            f"{path}: {problems[0]}{known}, for {cutting.patch_px} px at {cutting.magnification:g}x; check --mpp, "
            "--level0-px, --patch-px and --magnification",
        )
    distances = neighbour_distances(np.unique(corner, axis=0))
    if overlap_by_design(distances, side):
        stated = "the file states" if from_file else "--level0-px says"
        raise SlideError(
            "overlap",
            f"{path}: its tiles stand {usual_distance(distances):g} {unit} apart, but {stated} that a tile is {side:g} "
            f"{unit} wide, so {overlapping(distances, side)} of {len(distances)} would overlap; "
            f"{'' if from_file else _true_size(distances, cutting)}cut the tiles without overlap",
        )


def _true_size(distances: np.ndarray, cutting: Cutting) -> str:
    """Begin the advice with the option that would make tiles lie side by side; empty if there is no such option."""
    usual = usual_distance(distances)
    if overlap_by_design(distances, usual):
        return ""
    in_um = abs(usual / (cutting.level0_px * cutting.level0_mpp) - 1) <= SLACK
    also = ", with --mpp 1 if its coordinates are µm" if in_um and not cutting.in_um else ""
    return f"give the true --level0-px ({usual:g} px for tiles beside each other{also}), or "


def placement_doubts(corner: np.ndarray, cutting: Cutting) -> list[str]:
    """Warnings: tiles coincide, lie outside the slide, overlap in a few places, or are far apart."""
    distances, side = neighbour_distances(np.unique(corner, axis=0)), cutting.level0_px
    unit, usual = "µm" if cutting.in_um else "px", usual_distance(distances)
    doubts = []
    if twice := len(corner) - len(distances):
        doubts.append(f"{twice} of {len(corner)} tiles lie where another lies")
    if outside := int((corner + side / 2 < 0).any(axis=1).sum()):
        doubts.append(f"{outside} of {len(corner)} tiles lie outside the slide, at negative coordinates")
    if overlaps := overlapping(distances, side):
        doubts.append(f"{overlaps} of {len(distances)} tiles overlap another")
    if are_apart(distances, side):
        doubts.append(f"tiles of {side:g} {unit} stand {usual:g} {unit} apart; is --level0-px {side:g} right?")
    return doubts
