"""Reads vectors from arrays (.npz, .npy, HDF5, plain PyTorch tensors): by slide, beside ids, or one file per slide."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dmml.errors import InputError, reason_of
from dmml.slides.importing.cutting import extractor_of
from dmml.slides.vectors.file_vectors import FileVectors, as_rows, listed, stacked

SUFFIXES = (".npz", ".npy", ".h5", ".hdf5", ".pt", ".pth")
ID_NAMES = ("ids", "id", "slide_ids", "slide_id", "patient_ids", "patient_id", "filenames", "names", "slides", "cases")
VECTOR_NAMES = ("features", "feats", "embeddings", "embedding", "vectors", "x", "data")
_COORDINATES = ("coords", "coordinates")
_FOLDER = "slide_features_"
"""Beginning of TRIDENT's folder name for the vectors of a slide encoder: `slide_features_titan`"""


def holds_vectors(path: Path) -> bool:
    """Whether an HDF5 or PyTorch file certainly holds vectors of slides, and not tiles.

    Tiles are rows of features with an equal number of coordinates. A slide's vector is a single row without a
    coordinate. Files that list ids, or whose keys are slides, hold no tiles either.
    """
    held = _read(path)
    plain = {name.lower(): value for name, value in held.items()}
    if any(name in plain for name in ID_NAMES):
        return True
    features = next((plain[name] for name in VECTOR_NAMES if name in plain), None)
    coordinates = next((plain[name] for name in _COORDINATES if name in plain), None)
    if features is None:
        return coordinates is None and bool(plain) and all(_is_vector(value) for value in plain.values())
    shape = np.shape(features)
    return len(shape) == 1 or (shape[0] == 1 and len(shape) == 2 and np.shape(coordinates)[:1] != (1,))


def read_arrays(path: Path, ids: Path | None, alone: bool) -> FileVectors:
    """Read the vectors of one file.

    Args:
        path: `.npz`, `.npy`, `.h5` or `.pt`.
        ids: File with one id per row of an array; None means a file beside it, or ids in the file itself.
        alone: Whether the file is the only one, so that rows of an array without ids cannot all belong to one slide.

    Raises:
        InputError: It cannot be read, or nothing states to which slides its vectors belong.
    """
    held = _read(path)
    encoder = extractor_of(held) or _encoder_of_folder(path)
    plain = {name.lower(): name for name in held}
    features = next((held[plain[name]] for name in VECTOR_NAMES if name in plain), None)
    named = next((held[plain[name]] for name in ID_NAMES if name in plain), None)
    arrays = {name: value for name, value in held.items() if _is_vector(value)}
    if features is None:
        if not arrays:
            raise InputError(
                f"{path}: holds {listed(list(held)) or 'nothing'}, and no vectors; save them as arrays by id"
            )
        pairs = ((name, as_rows(path, name, value)) for name, value in arrays.items())
        return stacked(path, pairs, encoder=encoder)
    listed_in = ids or (None if named is not None else _ids_beside(path))
    if named is None and listed_in is None:
        rows = np.asarray(features)
        if alone and rows.ndim == 2 and len(rows) > 1 and path.suffix == ".npy":
            raise InputError(f"{path}: whose are its {len(rows)} rows? give a file with one id per line with --ids")
        return stacked(path, [(path.stem, as_rows(path, path.stem, features))], encoder=encoder)
    names = _texts(named) if listed_in is None else _read_ids(listed_in)
    rows = np.asarray(features)
    if len(names) != len(rows):
        raise InputError(
            f"{listed_in or path}: {len(names)} ids for {len(rows)} vectors of {path}; give one id per row"
        )
    pairs = ((name, as_rows(path, name, row)) for name, row in zip(names, rows, strict=True))
    return stacked(path, pairs, encoder=encoder)


def _is_vector(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiu" and value.ndim in (1, 2, 3) and value.size > 0


def _encoder_of_folder(path: Path) -> str:
    folder = next((part for part in reversed(path.parts[:-1]) if part.startswith(_FOLDER)), "")
    return folder.removeprefix(_FOLDER)


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
            f"{path}: no file of plain arrays ({reason_of(error)}); nothing is unpickled, so save arrays of numbers"
        ) from error


def _read_hdf5(path: Path) -> dict[str, Any]:
    import h5py

    with h5py.File(path, "r") as file:
        held: dict[str, Any] = {
            str(name): value for name, value in file.attrs.items() if isinstance(value, str | bytes)
        }
        return held | {name: item[()] for name, item in file.items() if isinstance(item, h5py.Dataset)}


def _read_tensors(path: Path) -> dict[str, Any]:
    import torch

    with warnings.catch_warnings(action="ignore"):  # about pickles, which are refused anyway
        held = torch.load(path, map_location="cpu", weights_only=True)
    named = {str(name): value for name, value in held.items()} if isinstance(held, Mapping) else {"features": held}
    return {name: _as_array(value) for name, value in named.items()}


def _as_array(value: Any) -> Any:
    import torch

    if not isinstance(value, torch.Tensor):
        return value
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def _texts(values: Any) -> list[str]:
    flat: Iterable[Any] = values.reshape(-1).tolist() if isinstance(values, np.ndarray) else list(values)
    return [(value.decode() if isinstance(value, bytes) else str(value)).strip() for value in flat]


def _ids_beside(path: Path) -> Path | None:
    names = (f"{path.stem}{end}" for end in ("_ids.txt", "_ids.csv", "_ids.npy", ".ids.txt", ".txt", ".csv"))
    return next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)


def _read_ids(path: Path) -> list[str]:
    """Read ids from an array of texts, or from the first field of each line of a text file, without its header."""
    if path.suffix == ".npy":
        try:
            return _texts(np.load(path, allow_pickle=False))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path}: no array of texts ({reason_of(error)}); save ids as text, one per line"
            ) from error
    try:
        lines = [line.split(",")[0].strip().strip('"') for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: ids cannot be read ({reason_of(error)}); give a text file, one id per line"
        ) from error
    ids = [line for line in lines if line]
    return ids[1:] if ids and ids[0].lower() in ID_NAMES else ids
