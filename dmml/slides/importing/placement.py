"""Checks that statements of files and users about imported tiles agree with each other and with the positions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dmml.slides.importing.tile_spec import CompleteTileSpec, TileSpec
from dmml.slides.slide_error import SlideError
from dmml.slides.tiling.tile_geometry import (
    SLACK,
    are_apart,
    neighbour_distances,
    overlap_is_systematic,
    overlapping,
    scale_problems,
    usual_distance,
)

_MAGNIFICATIONS = (5, 10, 20, 40)
_MAX_ROUNDING = 0.15
"""Relative difference up to which a magnification is rounded to a nominal one"""


def complete_tile_spec(path: Path, stated: TileSpec, user: TileSpec) -> CompleteTileSpec:
    """Combine what the file and the user state, and derive the values that follow from it; nothing is guessed.

    Args:
        path: The file, for messages.
        stated: Stated by the file. It takes precedence over the user, except for the µm per pixel of the finest level,
            which a tool may have rounded. If its coordinates are in µm, the user's µm per pixel is not used.
        user: Stated by the user.

    Raises:
        SlideError: A value is known neither from the file nor from the user.
    """
    magnification = stated.magnification or user.magnification
    if magnification and _nominal(magnification) is None:
        raise SlideError(
            "no_magnification", f"{path}: {magnification:g}x is not one of 5x, 10x, 20x, 40x; leave it out"
        )
    mpp = stated.level0_mpp if stated.in_um else user.level0_mpp or stated.level0_mpp
    level0, patch = stated.level0_px or user.level0_px, stated.patch_px or user.patch_px
    if mpp is None:
        reason = f" ({stated.contradiction})" if stated.contradiction else ""
        raise SlideError(
            "no_mpp",
            f"{path}: µm per pixel of the finest level unknown{reason}; give it with --mpp, e.g. --mpp 0.25",
        )
    if level0 is None:
        raise SlideError(
            "no_tile_size", f"{path}: side of a tile in pixels of the finest level unknown; give it with --level0-px"
        )
    if not magnification:
        if not patch:
            raise SlideError(
                "no_magnification",
                f"{path}: its magnification is unknown; give it with --magnification, or the pixels of a tile with "
                "--patch-px",
            )
        magnification = 10.0 / (level0 * mpp / patch)
    if (nominal := _nominal(magnification)) is None:
        size = f"{level0:g} µm" if stated.in_um else f"{level0:g} px of {mpp:g} µm"
        options = "" if stated.in_um else ", --mpp, --level0-px and --patch-px"
        raise SlideError(
            "no_magnification",
            f"{path}: tiles of {size} that are scaled to {patch} px have {magnification:.3g}x, which is not one of 5x, "
            f"10x, 20x, 40x; check what the file states{options}",
        )
    patch = patch or round(level0 * mpp / (10.0 / nominal))
    source = stated.mpp_source if stated.in_um else user.mpp_source or stated.mpp_source
    return CompleteTileSpec(nominal, patch, level0, mpp, source, stated.in_um)


def _nominal(magnification: float) -> int | None:
    """Round a magnification to the nominal one; None if it is near none of those that a store may have."""
    return next((m for m in _MAGNIFICATIONS if abs(magnification / m - 1) < _MAX_ROUNDING), None)


def unused_options(stated: TileSpec, user: TileSpec) -> list[str]:
    """List one line per option that contradicts the file and is therefore not used."""
    pairs = {
        "--level0-px": (stated.level0_px, user.level0_px),
        "--patch-px": (stated.patch_px, user.patch_px),
        "--magnification": (stated.magnification, user.magnification),
        "--mpp": (stated.level0_mpp if stated.in_um else None, user.level0_mpp),
    }
    return [
        f"{option} {of_user:g} is not used, since the file states {'coordinates in µm' if stated.in_um else f'{of_file:g}'}"
        for option, (of_file, of_user) in pairs.items()
        if of_file and of_user and abs(of_user / of_file - 1) > SLACK
    ]


def check_placement(path: Path, corner: np.ndarray, spec: CompleteTileSpec, from_file: bool) -> None:
    """Refuse tiles that overlap, or that cannot have the stated size.

    Args:
        path: The file, for messages.
        corner: (N, 2) in the unit of the specification.
        spec: As returned by `complete_tile_spec`.
        from_file: Whether the file states the side of a tile, rather than the user.

    Raises:
        SlideError: The message names what disagrees (state `overlap` or `impossible_scale`).
    """
    side, mpp = spec.level0_px, spec.level0_mpp
    unit = "µm" if spec.in_um else "px"
    nominal = spec.patch_px * 10.0 / spec.magnification
    problems = scale_problems(None, side * mpp, nominal, corner * mpp)
    if problems:
        pixels = "" if spec.in_um else f" ({side:g} px of {mpp:g} µm)"
        raise SlideError(
            "impossible_scale",
            f"{path}: {problems[0]}{pixels}, for {spec.patch_px} px at {spec.magnification:g}x; check --mpp, "
            "--level0-px, --patch-px and --magnification",
        )
    distances = neighbour_distances(np.unique(corner, axis=0))
    if overlap_is_systematic(distances, side):
        statement = "the file states" if from_file else "--level0-px says"
        raise SlideError(
            "overlap",
            f"{path}: its tiles are {usual_distance(distances):g} {unit} apart, but {statement} that a tile is {side:g} "
            f"{unit} wide, so {overlapping(distances, side)} of {len(distances)} would overlap; "
            f"{'' if from_file else _advice_on_size(distances, spec)}cut the tiles without overlap",
        )


def _advice_on_size(distances: np.ndarray, spec: CompleteTileSpec) -> str:
    """Begin the advice with the option that would make tiles lie side by side; empty if there is no such option."""
    usual = usual_distance(distances)
    if overlap_is_systematic(distances, usual):
        return ""
    in_um = abs(usual / (spec.level0_px * spec.level0_mpp) - 1) <= SLACK
    also = ", with --mpp 1 if its coordinates are µm" if in_um and not spec.in_um else ""
    return f"give the true --level0-px ({usual:g} px for tiles side by side{also}), or "


def placement_doubts(corner: np.ndarray, spec: CompleteTileSpec) -> list[str]:
    """Warnings: tiles coincide, lie outside the slide, overlap in a few places, or are far apart."""
    distances, side = neighbour_distances(np.unique(corner, axis=0)), spec.level0_px
    unit, usual = "µm" if spec.in_um else "px", usual_distance(distances)
    doubts = []
    if n_repeated := len(corner) - len(distances):
        doubts.append(f"{n_repeated} of {len(corner)} tiles have the same position as another")
    if n_outside := int((corner + side / 2 < 0).any(axis=1).sum()):
        doubts.append(f"{n_outside} of {len(corner)} tiles lie outside the slide, at negative coordinates")
    if n_overlapping := overlapping(distances, side):
        doubts.append(f"{n_overlapping} of {len(distances)} tiles overlap another")
    if are_apart(distances, side):
        doubts.append(f"tiles of {side:g} {unit} are {usual:g} {unit} apart; is --level0-px {side:g} right?")
    return doubts
