"""Whether statements of files and of the user about imported tiles agree with each other and with the positions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dmml.slides.foreign_cutting import Cutting
from dmml.slides.mpp import SlideError
from dmml.slides.tile_geometry import (
    SLACK,
    are_apart,
    neighbour_distances,
    overlap_by_design,
    overlapping,
    scale_problems,
    usual_distance,
)

_MAGNIFICATIONS = (5, 10, 20, 40)
_NEAR = 0.15
"""Relative difference up to which a magnification is called by the nominal one"""


def complete_cutting(path: Path, told: Cutting, given: Cutting) -> Cutting:
    """Combine what the file and the user state, and derive what follows from it; nothing is guessed.

    Args:
        path: The file, for messages.
        told: Stated by the file. It takes precedence over the user, except for the µm per pixel of the finest level,
            which a tool may have rounded. If its coordinates are µm, sizes and scales in pixels are not used.
        given: Stated by the user.

    Raises:
        SlideError: Something is known neither from the file nor from the user.
    """
    mpp = told.level0_mpp if told.in_um else given.level0_mpp or told.level0_mpp
    level0 = told.level0_px or given.level0_px
    if mpp is None:
        raise SlideError(
            "no_mpp", f"{path}: µm per pixel of the finest level unknown; give it with --mpp, e.g. --mpp 0.25"
        )
    if level0 is None:
        raise SlideError(
            "no_tile_size", f"{path}: side of a tile in pixels of the finest level unknown; give it with --level0-px"
        )
    patch = told.patch_px or given.patch_px
    magnification = told.magnification or given.magnification
    if magnification is None and patch:
        magnification = 10.0 / (level0 * mpp / patch)
    nominal = next((m for m in _MAGNIFICATIONS if magnification and abs(magnification / m - 1) < _NEAR), None)
    if nominal is None:
        raise SlideError(
            "no_magnification",
            f"{path}: its magnification is unknown or none of 5, 10, 20, 40; give --magnification and --patch-px",
        )
    patch = patch or round(level0 * mpp / (10.0 / nominal))
    source = told.mpp_source if told.in_um else given.mpp_source or told.mpp_source
    return Cutting(nominal, patch, level0, mpp, source, told.in_um)


def unused_options(told: Cutting, given: Cutting) -> list[str]:
    """One line per option that contradicts the file and is therefore not used."""
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
    """Refuse tiles that overlap, or that cannot be of the size that is stated.

    Args:
        path: The file, for messages.
        corner: (N, 2) in the unit of the cutting.
        cutting: As `complete_cutting` returns it.
        from_file: Whether the side of a tile is stated by the file, and not by the user.

    Raises:
        SlideError: Says what disagrees (state `overlap` or `impossible_scale`).
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
        usual = f"{usual_distance(distances):g} {unit}"
        stated = "the file states" if from_file else "--level0-px says"
        remedy = "" if from_file else f"give the true --level0-px ({usual} for tiles beside each other), or "
        raise SlideError(
            "overlap",
            f"{path}: its tiles stand {usual} apart, but {stated} that a tile is {side:g} {unit} wide, so "
            f"{overlapping(distances, side)} of {len(distances)} would overlap; {remedy}cut the tiles without overlap",
        )


def placement_doubts(corner: np.ndarray, cutting: Cutting) -> list[str]:
    """Warnings: a few tiles overlap, or all tiles are far apart."""
    distances, side = neighbour_distances(np.unique(corner, axis=0)), cutting.level0_px
    unit, usual = "µm" if cutting.in_um else "px", usual_distance(distances)
    doubts = []
    if overlaps := overlapping(distances, side):
        doubts.append(f"{overlaps} of {len(distances)} tiles overlap another")
    if are_apart(distances, side):
        doubts.append(f"tiles of {side:g} {unit} stand {usual:g} {unit} apart; is --level0-px {side:g} right?")
    return doubts
