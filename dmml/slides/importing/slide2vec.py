"""Reads what slide2vec states about its tiles: where it keeps features and coordinates, and how it cut the tiles.

Versions 3 to 7 write `tile_embeddings/<slide>.pt` or `.npz` with `<slide>.meta.json`, and
`tiles/<slide>.coordinates.npz` with `<slide>.coordinates.meta.json`; a class of an annotation has a folder of its own in
both. Versions 1 and 2 write `features/<slide>.pt`, `coordinates/<slide>.npy` (an array of records, one per tile) and
`config.yaml`. Coordinates are the upper left corners of tiles in pixels of the finest level, in the order of the
features.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dmml.errors import reason_of
from dmml.slides.slide_error import SlideError

TILE_FOLDER = "tile_embeddings"
ARCHIVE = ".npz"
"""Ending of the files of features that are no tensors, and of the coordinates"""
_REGION_FOLDER = "hierarchical_embeddings"
_OTHER_FOLDERS = (_REGION_FOLDER, "slide_embeddings", "patient_embeddings", "image_embeddings")
_EARLY_FEATURES, _EARLY_COORDINATES, _EARLY_ENDING = "features", "coordinates", ".npy"
_COORDINATES, _SIDECAR = ".coordinates.npz", ".meta.json"
_SPACE = "level0_px"


def tile_folders(folder: Path) -> list[Path]:
    """List the folders of tile features in a folder of runs, in a run's folder, or in a part of one; else none."""
    if TILE_FOLDER in folder.resolve().parts:
        return [folder]
    folders = sorted(path for path in folder.rglob(TILE_FOLDER) if path.is_dir())
    if folders:
        return folders
    early = folder.parent if folder.name == _EARLY_FEATURES else folder
    has_coordinates = any((early / _EARLY_COORDINATES).glob(f"*{_EARLY_ENDING}"))
    return [early / _EARLY_FEATURES] if has_coordinates and (early / _EARLY_FEATURES).is_dir() else []


def holds_tiles(path: Path) -> bool:
    """Whether a file or folder is slide2vec's and of tiles or regions, whose archives could be taken for vectors."""
    if not path.is_dir():
        return bool({TILE_FOLDER, _REGION_FOLDER} & set(path.resolve().parent.parts))
    return bool(tile_folders(path)) or path.name == _REGION_FOLDER or any(path.rglob(_REGION_FOLDER))


def coordinate_paths(path: Path, coords: Path | None) -> list[Path]:
    """List where the coordinates of a file of features may be.

    Args:
        path: The file of features.
        coords: Folder of the coordinates that the user names; None means where slide2vec keeps them.
    """
    names = [f"{path.stem}{_COORDINATES}", f"{path.stem}{_EARLY_ENDING}"]
    if coords is not None:
        return [coords / name for name in names]
    run = path.parent.parent
    if path.parent.name != TILE_FOLDER and run.name == TILE_FOLDER:
        return [run.parent / "tiles" / path.parent.name / names[0]]
    return [run / "tiles" / names[0], run / _EARLY_COORDINATES / names[1]]


def read_archive(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an `.npz`, without unpickling anything.

    Raises:
        SlideError: It is damaged, or holds pickled objects.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # damaged archives raise exceptions of many types
        raise SlideError(
            "unopenable",
            f"{path}: is not a complete archive of plain arrays ({reason_of(error)}); extract the slide again",
        ) from error


def feature_attributes(path: Path) -> dict[str, Any]:
    """Return the attributes of features, under the names that other tools use: `encoder`.

    Raises:
        SlideError: The file beside the features is damaged, or says that they are not those of tiles.
    """
    folders = (path.parent.name, path.parent.parent.name)  # the second one, if a class has a folder of its own
    folder = next((name for name in folders if name in _OTHER_FOLDERS), "")
    sidecar = path.with_name(f"{path.stem}{_SIDECAR}")
    if not sidecar.is_file():
        if folder:
            raise _not_tiles(path, folder)
        return _early_encoder(path)
    statements = _read_json(sidecar)
    if (kind := str(statements.get("artifact_type", TILE_FOLDER))) != TILE_FOLDER:
        raise _not_tiles(path, kind)
    identity = statements.get("compatibility")
    # The features of tiles below a slide encoder are those of its tile encoder.
    encoder = (identity.get("tile_encoder") if isinstance(identity, Mapping) else None) or statements.get(
        "encoder_name"
    )
    return {"encoder": encoder} if encoder else {}


def read_coordinates(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Read coordinates and how the tiles were cut.

    Args:
        path: `<slide>.coordinates.npz`, or `<slide>.npy` of versions 1 and 2.

    Returns:
        (N, 2) upper left corners in pixels of the finest level, and attributes under the names that TRIDENT uses.

    Raises:
        SlideError: A file is damaged or missing, or does not hold what slide2vec writes.
    """
    if path.suffix == _EARLY_ENDING:
        return _read_early_coordinates(path)
    arrays = read_archive(path)
    if missing := [name for name in ("x", "y") if name not in arrays]:
        raise SlideError(
            "no_coordinates", f"{path}: holds no {missing[0]}, the corners of its tiles; extract the slide again"
        )
    corner = np.stack([arrays["x"], arrays["y"]], axis=1)
    order = arrays.get("tile_index", np.arange(len(corner)))
    if not np.array_equal(order, np.arange(len(corner))):
        raise SlideError("mismatch", f"{path}: tile_index does not count its tiles from 0; extract the slide again")
    sidecar = path.with_name(f"{path.name.removesuffix(ARCHIVE)}{_SIDECAR}")
    if not sidecar.is_file():
        raise SlideError(
            "no_tile_size", f"{path}: {sidecar.name}, which states the size of its tiles, is missing; copy it, too"
        )
    statements = _read_json(sidecar)
    return corner, _tiling(sidecar, statements) if "tiling" in statements else _flat_tiling(sidecar, statements)


def _tiling(path: Path, statements: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes from the sections that versions 4 and later write."""
    space = _section(path, statements, "artifact").get("coordinate_space", _SPACE)
    if space != _SPACE:
        raise SlideError("unknown_unit", f"{path}: its coordinates are in {space}, not in {_SPACE}; convert them")
    tiling, slide = _section(path, statements, "tiling"), _section(path, statements, "slide")
    numbers = _numbers(path, tiling, "requested_tile_size_px", "requested_spacing_um", "tile_size_lv0")
    return _attributes(*numbers, *_numbers(path, slide, "base_spacing_um"))


def _flat_tiling(path: Path, statements: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes from the list of settings that version 3 writes."""
    return _attributes(*_numbers(path, statements, "target_tile_size_px", "target_spacing_um", "tile_size_lv0"))


def _read_early_coordinates(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    try:
        records = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise SlideError(
            "unopenable", f"{path}: is not a complete array of records ({reason_of(error)}); extract the slide again"
        ) from error
    fields = records.dtype.names or ()
    needed = ("x", "y", "tile_size_resized", "resize_factor", "tile_size_lv0", "target_spacing")
    if missing := [name for name in needed if name not in fields]:
        raise SlideError(
            "no_coordinates", f"{path}: has no field {missing[0]}; give the coordinates that slide2vec wrote"
        )
    if not len(records):
        raise SlideError("no_tissue", f"{path}: holds no tiles; leave it out")
    first = {name: records[name][0].item() for name in fields}
    # Version 1 states only the size that was read, which was then divided by the factor.
    first.setdefault("target_tile_size", round(first["tile_size_resized"] / (first["resize_factor"] or 1.0)))
    sizes = _numbers(path, first, "target_tile_size", "target_spacing", "tile_size_lv0")
    return np.stack([records["x"], records["y"]], axis=1), _attributes(*sizes)


def _attributes(
    patch_px: float, spacing_um: float, level0_px: float, level0_mpp: float | None = None
) -> dict[str, Any]:
    """Name the numbers as TRIDENT does; without the scale of the finest level, it follows from the others."""
    return {
        "patch_size": patch_px,
        "patch_size_level0": level0_px,
        "target_magnification": 10.0 / spacing_um,
        "level0_mpp": level0_mpp or spacing_um * patch_px / level0_px,
    }


def _numbers(path: Path, statements: Mapping[str, Any], *names: str) -> tuple[float, ...]:
    for name in names:
        value = statements.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < np.inf:
            raise SlideError(
                "no_tile_size", f"{path}: {name} is {value!r}, not a positive number; extract the slide again"
            )
    return tuple(float(statements[name]) for name in names)


def _section(path: Path, statements: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = statements.get(name)
    if not isinstance(section, Mapping):
        raise SlideError("no_tile_size", f"{path}: has no section {name!r}; give the file as slide2vec wrote it")
    return section


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise SlideError("unopenable", f"{path}: is not JSON ({reason_of(error)}); extract the slide again") from error
    if not isinstance(content, dict):
        raise SlideError("unopenable", f"{path}: holds a {type(content).__name__}, not a list of settings by name")
    return content


def _early_encoder(path: Path) -> dict[str, Any]:
    """Return the encoder that the configuration of a run of version 1 or 2 names; nothing where there is none."""
    config = path.parent.parent / "config.yaml"
    if path.parent.name != _EARLY_FEATURES or not config.is_file():
        return {}
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, OSError):
        return {}
    model = content.get("model") if isinstance(content, dict) else None
    return {"encoder": model["name"]} if isinstance(model, dict) and isinstance(model.get("name"), str) else {}


def _not_tiles(path: Path, kind: str) -> SlideError:
    return SlideError("not_tiles", f"{path}: holds slide2vec's {kind}, not {TILE_FOLDER}; give the features of tiles")
