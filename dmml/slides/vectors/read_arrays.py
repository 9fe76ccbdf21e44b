"""Reads vectors from arrays (.npz, .npy, HDF5, plain PyTorch tensors): by slide, with a list of ids, or one file per slide."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from dmml.errors import InputError, reason_of
from dmml.slides.importing.tile_spec import extractor_of
from dmml.slides.vectors.file_vectors import FileVectors, as_rows, listed, stacked

SUFFIXES = (".npz", ".npy", ".h5", ".hdf5", ".pt", ".pth")
ID_NAMES = ("ids", "id", "slide_ids", "slide_id", "patient_ids", "patient_id", "filenames", "names", "slides", "cases")
VECTOR_NAMES = ("features", "feats", "embeddings", "embedding", "vectors", "x", "data")
_COORDINATE_NAMES = ("coords", "coordinates")
_FOLDER_PREFIX = "slide_features_"
"""Beginning of TRIDENT's folder name for the vectors of a slide encoder: `slide_features_titan`"""


def holds_vectors(path: Path) -> bool:
    """Whether an HDF5 or PyTorch file certainly holds vectors of slides, and not tiles.

    Tiles are rows of features with an equal number of coordinates. A slide's vector is a single row without a
    coordinate. Files that list ids, or whose keys are slides, hold no tiles either.
    """
    content = {name.lower(): value for name, value in _read(path).items()}
    if any(name in content for name in ID_NAMES):
        return True
    features = next((content[name] for name in VECTOR_NAMES if name in content), None)
    coordinates = next((content[name] for name in _COORDINATE_NAMES if name in content), None)
    if features is None:
        return coordinates is None and bool(content) and all(_is_vector(value) for value in content.values())
    shape = np.shape(features)
    n_coordinates = np.shape(coordinates)[:1] if coordinates is not None else ()
    return len(shape) == 1 or (shape[0] == 1 and len(shape) == 2 and n_coordinates != (1,))


def read_arrays(path: Path, ids: Path | None, is_only_file: bool) -> FileVectors:
    """Read the vectors of one file.

    Args:
        path: `.npz`, `.npy`, `.h5` or `.pt`.
        ids: File with one id per row of an array; None means a file of a similar name, or ids in the file itself.
        is_only_file: Whether the file is the only one, so that rows of an array without ids cannot all belong to one
            slide.

    Raises:
        InputError: It cannot be read, or nothing states to which slides its vectors belong.
    """
    content = _read(path)
    encoder = extractor_of(content) or _encoder_of_folder(path)
    original_name = {name.lower(): name for name in content}
    features = next((content[original_name[name]] for name in VECTOR_NAMES if name in original_name), None)
    ids_in_file = next((content[original_name[name]] for name in ID_NAMES if name in original_name), None)
    arrays = {name: value for name, value in content.items() if _is_vector(value)}
    if features is None:
        if not arrays:
            raise InputError(
                f"{path}: holds {listed(list(content)) or 'nothing'}, but no vectors; save them as arrays by id"
            )
        pairs = ((name, as_rows(path, name, value)) for name, value in arrays.items())
        return stacked(path, pairs, encoder=encoder)
    id_file = ids or (None if ids_in_file is not None else _id_file_of(path))
    if ids_in_file is None and id_file is None:
        rows = np.asarray(features)
        if is_only_file and rows.ndim == 2 and len(rows) > 1 and path.suffix == ".npy":
            raise InputError(
                f"{path}: nothing states to which slides its {len(rows)} rows belong; give a file with one id per line with --ids"
            )
        return stacked(path, [(path.stem, as_rows(path, path.stem, features))], encoder=encoder)
    names = _read_ids(id_file) if id_file is not None else [] if ids_in_file is None else _texts(ids_in_file)
    rows = np.asarray(features)
    if len(names) != len(rows):
        raise InputError(f"{id_file or path}: {len(names)} ids for {len(rows)} vectors of {path}; give one id per row")
    pairs = ((name, as_rows(path, name, row)) for name, row in zip(names, rows, strict=True))
    return stacked(path, pairs, encoder=encoder)


def _is_vector(value: object) -> TypeGuard[np.ndarray]:
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiu" and value.ndim in (1, 2, 3) and value.size > 0


def _encoder_of_folder(path: Path) -> str:
    folder = next((part for part in reversed(path.parts[:-1]) if part.startswith(_FOLDER_PREFIX)), "")
    return folder.removeprefix(_FOLDER_PREFIX)


def _read(path: Path) -> dict[str, Any]:
    """Read {name: array, list or text} from a file; an array without a name is called `features`."""
    suffix = path.suffix.lower()
    try:
        if suffix in (".npz", ".npy"):
            loaded = np.load(path, allow_pickle=False)
            return (
                {"features": loaded}
                if isinstance(loaded, np.ndarray)
                else {name: loaded[name] for name in loaded.files}
            )
        return _read_hdf5(path) if suffix in (".h5", ".hdf5") else _read_tensors(path)
    except InputError:
        raise
    except Exception as error:  # numpy, h5py and torch raise many types for what they cannot or must not read
        raise InputError(
            f"{path}: is not a file of plain arrays ({reason_of(error)}); nothing is unpickled, so save arrays of numbers"
        ) from error


def _read_hdf5(path: Path) -> dict[str, Any]:
    import h5py

    with h5py.File(path, "r") as file:
        texts: dict[str, Any] = {
            str(name): value for name, value in file.attrs.items() if isinstance(value, str | bytes)
        }
        return texts | {name: item[()] for name, item in file.items() if isinstance(item, h5py.Dataset)}


def _read_tensors(path: Path) -> dict[str, Any]:
    import torch

    with warnings.catch_warnings(action="ignore"):  # about pickles, which are refused anyway
        content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, Mapping):
        content = {"features": content}
    return {str(name): _as_array(value) for name, value in content.items()}


def _as_array(value: object) -> object:
    """Convert a tensor to an array; anything else is returned as it is."""
    import torch

    if not isinstance(value, torch.Tensor):
        return value
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def _texts(values: np.ndarray | Iterable[object]) -> list[str]:
    flat: Iterable[object] = values.reshape(-1).tolist() if isinstance(values, np.ndarray) else list(values)
    return [(value.decode() if isinstance(value, bytes) else str(value)).strip() for value in flat]


def _id_file_of(path: Path) -> Path | None:
    names = (f"{path.stem}{end}" for end in ("_ids.txt", "_ids.csv", "_ids.npy", ".ids.txt", ".txt", ".csv"))
    return next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)


def _read_ids(path: Path) -> list[str]:
    """Read ids from an array of texts, or from the first field of each line of a text file, without its header."""
    if path.suffix == ".npy":
        try:
            return _texts(np.load(path, allow_pickle=False))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path}: is not an array of texts ({reason_of(error)}); save ids as text, one per line"
            ) from error
    try:
        lines = [line.split(",")[0].strip().strip('"') for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: ids cannot be read ({reason_of(error)}); give a text file, one id per line"
        ) from error
    ids = [line for line in lines if line]
    return ids[1:] if ids and ids[0].lower() in ID_NAMES else ids
