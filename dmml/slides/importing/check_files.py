"""Checks every feature file before any is imported, and keeps its tiles, but not its features, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dmml.errors import InputError
from dmml.progress_bars import progress_bar
from dmml.slides.discovery.file_names import check_name, in_one_line
from dmml.slides.failures import Failure
from dmml.slides.importing.find_files import coordinates_of
from dmml.slides.importing.placement import check_placement, complete_tile_spec, placement_doubts, unused_options
from dmml.slides.importing.read_features import read_features
from dmml.slides.importing.tile_spec import CompleteTileSpec, TileSpec
from dmml.slides.slide_error import SlideError
from dmml.store.checks import zero_rows


@dataclass(frozen=True)
class CheckedFile:
    """A file that can be imported. Its features are read again when they are written: all may not fit into memory."""

    path: Path
    coordinates: Path | None
    """File that has the coordinates, if the file of the features has none"""
    corner: np.ndarray
    """(N, 2) float64, upper left corner of each tile in pixels of the finest level, or in µm if `spec.in_um`"""
    spec: CompleteTileSpec
    dim: int
    """Feature width D"""
    encoder: str
    """Name of the encoder, if the file states it"""

    @property
    def kind(self) -> tuple[int, int]:
        """Feature width and pixels of a tile, which all files of a store share."""
        return self.dim, self.spec.patch_px


SlideFiles = dict[str, dict[int, CheckedFile]]
"""{slide_id: {magnification: file}}"""


def check_files(
    files: Mapping[str, list[Path]],
    coords: str | Path | None,
    user_spec: TileSpec,
    failures: list[Failure],
    warnings: list[str],
) -> SlideFiles:
    """Check every file.

    Args:
        files: {slide_id: files}.
        coords: Folder of HDF5 files with coordinates, for feature files that contain none.
        user_spec: What the user states about the tiles.
        failures: Receives the files that cannot be imported.
        warnings: Receives doubts about files that can be imported nevertheless.
    """
    checked: SlideFiles = {}
    for slide_id, paths in progress_bar(files.items(), "checking"):
        for path in paths:
            try:
                file, doubts = _check_file(path, coords, user_spec)
                scale = file.spec.magnification
                if scale in checked.get(slide_id, {}):
                    other = checked[slide_id][scale].path
                    raise SlideError(
                        "duplicate_stem", f"{path}: is of the same slide and magnification as {other}; name one of them"
                    )
                checked.setdefault(slide_id, {})[scale] = file
                warnings += [f"{path}: {doubt}" for doubt in doubts]
            except SlideError as error:
                failures.append(Failure(in_one_line(path), error.state, str(error)))
    return checked


def _check_file(path: Path, coords: str | Path | None, user_spec: TileSpec) -> tuple[CheckedFile, list[str]]:
    """Check one file, and list the doubts about it.

    Raises:
        SlideError: It cannot be imported.
    """
    check_name(path)
    coordinates = coordinates_of(path, coords)
    content = read_features(path, coordinates)
    spec = complete_tile_spec(path, content.spec, user_spec)
    check_placement(path, content.corner, spec, from_file=content.spec.level0_px is not None)
    doubts = [*unused_options(content.spec, user_spec), *placement_doubts(content.corner, spec)]
    if zeros := zero_rows(content.features):
        doubts.append(f"{zeros} of {len(content.features)} tiles hold zeros only, as where an extraction failed")
    file = CheckedFile(path, coordinates, content.corner, spec, content.features.shape[1], content.encoder)
    return file, doubts


def keep_most_common_kind(files: SlideFiles, failures: list[Failure]) -> tuple[int, int]:
    """Leave out files whose feature width or tile size differs from most: a store holds one kind of features.

    Returns:
        Feature width and pixels of a tile of the remaining files.
    """
    kinds = [file.kind for by_scale in files.values() for file in by_scale.values()]
    common = max(kinds, key=kinds.count)
    for by_scale in files.values():
        for scale, file in list(by_scale.items()):
            if file.kind != common:
                del by_scale[scale]
                reason = (
                    f"{file.path}: {file.dim} features of {file.spec.patch_px} px tiles, the others have {common[0]} of "
                    f"{common[1]} px; import it to another --out"
                )
                failures.append(Failure(str(file.path), "other_kind", reason))
    return common


def encoder_of(paths: Mapping[str, list[Path]], files: SlideFiles) -> str:
    """Return the encoder that the files name, or TRIDENT's folder `features_<name>`.

    Raises:
        InputError: None is named, or several are.
    """
    named = encoders_named_in(files)
    if len(named) > 1:
        raise InputError(
            f"the files name several encoders ({', '.join(sorted(named))}); import the files of one at a time"
        )
    folders = {path.parent.name for of_slide in paths.values() for path in of_slide}
    names = {name.removeprefix("features_") for name in folders if name.startswith("features_")}
    if len(names) == 1 and len(folders) == 1:
        return names.pop()
    if named:
        return named.pop()
    raise InputError(
        "nothing names the encoder that made these features; name it with --encoder, e.g. --encoder uni_v1"
    )


def encoders_named_in(files: SlideFiles) -> set[str]:
    """Names of the encoders that the files themselves state."""
    return {file.encoder for by_scale in files.values() for file in by_scale.values()} - {""}
