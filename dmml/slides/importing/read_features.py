"""Reads tile features of other tools: HDF5 files of TRIDENT, CLAM and STAMP, plain tensors with coordinates, slide2vec."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dmml.errors import InputError
from dmml.slides.importing import slide2vec
from dmml.slides.importing.tile_spec import TileSpec, extractor_of, text_of, tile_spec_of
from dmml.slides.slide_error import SlideError

FEATURE_NAMES = ("features", "feats")
COORDINATE_NAMES = ("coords", "coordinates")
_HDF5 = (".h5", ".hdf5")


@dataclass(frozen=True)
class ForeignFeatures:
    """Features of one slide as a file holds them."""

    features: np.ndarray
    """(N, D) float"""
    corner: np.ndarray
    """(N, 2) float64, upper left corner of each tile in pixels of the finest level, or in µm if `spec.in_um`"""
    spec: TileSpec
    """How the tiles were cut, as far as the file states it"""
    encoder: str = ""
    """Name of the encoder, if the file states it"""


def read_features(path: Path, coordinates: Path | None = None) -> ForeignFeatures:
    """Read one file of features.

    Args:
        path: `.h5`, `.pt` with a plain tensor (or a mapping of plain tensors), or slide2vec's `.npz`.
        coordinates: File with the coordinates, for features without coordinates in their file: HDF5, or slide2vec's.

    Raises:
        SlideError: The file cannot be used; `state` is the keyword for the reason.
    """
    arrays, attributes = _read_arrays(path)
    if (kind := text_of(attributes.get("feat_type"))) not in ("", "tile"):
        raise SlideError(
            "not_tiles", f"{path}: holds features of a {kind} (feat_type), not of its tiles; give those of the tiles"
        )
    features = next((arrays[name] for name in FEATURE_NAMES if name in arrays), None)
    if features is None:
        raise SlideError(
            "no_features",
            f"{path}: holds {_names_in(path, arrays)}, but neither {' nor '.join(FEATURE_NAMES)}; name the folder of "
            "features, or rename them in the file",
        )
    corner = next((arrays[name] for name in COORDINATE_NAMES if name in arrays), None)
    if corner is None:
        corner, attributes_of_coordinates = _read_coordinates(path, coordinates)
        attributes = {**attributes, **attributes_of_coordinates}
    if features.ndim == 3 and features.shape[0] == 1:
        features = features[0]
    _check(path, features, corner)
    spec, corner = tile_spec_of(path, attributes, corner[:, :2].astype(np.float64))
    return ForeignFeatures(features, corner, spec, extractor_of(attributes))


def _read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read the arrays of a file, and its attributes."""
    suffix = path.suffix.lower()
    if suffix == slide2vec.ARCHIVE:
        return slide2vec.read_archive(path), slide2vec.feature_attributes(path)
    if suffix in (".pt", ".pth"):
        arrays, attributes = _read_tensors(path)
        return arrays, {**attributes, **slide2vec.feature_attributes(path)}
    return _read_hdf5(path)


def _read_coordinates(path: Path, coordinates: Path | None) -> tuple[np.ndarray, dict[str, Any]]:
    """Read the coordinates of features from another file, with its attributes."""
    if coordinates is None:
        raise SlideError(
            "no_coordinates",
            f"{path}: has features without coordinates; name the folder that has the coordinates with --coords",
        )
    if coordinates.suffix.lower() not in _HDF5:
        return slide2vec.read_coordinates(coordinates)
    arrays, attributes = _read_hdf5(coordinates)
    corner = next((arrays[name] for name in COORDINATE_NAMES if name in arrays), None)
    if corner is None:
        raise SlideError(
            "no_coordinates",
            f"{coordinates}: holds {sorted(arrays) or 'nothing'}, but no array {' or '.join(COORDINATE_NAMES)}; "
            "keep the file with the tiles' coordinates beside the features",
        )
    return corner, attributes


def _check(path: Path, features: np.ndarray, corner: np.ndarray) -> None:
    if features.ndim != 2 or features.dtype.kind not in "fiu":
        raise SlideError(
            "not_tiles", f"{path}: features are {features.shape}, not one row per tile; are they of the whole slide?"
        )
    if corner.ndim != 2 or corner.shape[1] < 2 or corner.dtype.kind not in "fiu":
        raise SlideError("no_coordinates", f"{path}: coords are {corner.shape} {corner.dtype}, not (N, 2) pixels")
    if len(features) != len(corner):
        raise SlideError(
            "mismatch", f"{path}: {len(features)} features but {len(corner)} coordinates; extract the slide again"
        )
    if not len(features):
        raise SlideError("no_tissue", f"{path}: holds no tiles; leave it out")
    with np.errstate(over="ignore"):
        finite = np.isfinite(features.astype(np.float16)).all()
    if not finite:
        raise SlideError(
            "not_finite", f"{path}: features are NaN or larger than float16 can hold; extract the slide again"
        )
    if not np.isfinite(corner).all():
        raise SlideError("no_coordinates", f"{path}: some coords are NaN or infinite; extract the slide again")


def _read_hdf5(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read the data sets of features and coordinates, and all attributes of the file and of these data sets."""
    try:
        import h5py
    except ImportError as error:
        raise InputError(f"{path}: reading HDF5 needs a package: pip install h5py") from error
    try:
        with h5py.File(path, "r") as file:
            names = [name for name in (*FEATURE_NAMES, *COORDINATE_NAMES) if isinstance(file.get(name), h5py.Dataset)]
            attributes = dict(file.attrs)
            for name in names:
                attributes.update(file[name].attrs)
            return {name: file[name][()] for name in names}, attributes
    except OSError as error:
        reason = " ".join(str(error).split())
        raise SlideError(
            "unopenable", f"{path}: is not a complete HDF5 file ({reason}); extract the slide again"
        ) from error


def _names_in(path: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """List what a file without features holds, including the data sets of an HDF5 file that were not read."""
    import h5py

    names = list(arrays)
    if h5py.is_hdf5(path):
        with h5py.File(path, "r") as file:
            names = list(file)
    return ", ".join(sorted(names)) or "nothing"


def _read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a PyTorch file of plain tensors; anything that would have to be unpickled is refused."""
    import torch

    try:
        with warnings.catch_warnings(action="ignore"):  # about pickles, which are refused anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise SlideError(
            "not_plain",
            f"{path}: is not a file of plain tensors, and nothing else is loaded; save the features with "
            "torch.save(tensor)",
        ) from error
    if isinstance(content, torch.Tensor):
        content = {"features": content}
    if not isinstance(content, Mapping):
        raise SlideError(
            "not_plain", f"{path}: holds a {type(content).__name__} instead of a tensor; save the features alone"
        )
    tensors = {key: value for key, value in content.items() if isinstance(value, torch.Tensor)}
    arrays = {str(key): (v.float() if v.dtype == torch.bfloat16 else v).numpy() for key, v in tensors.items()}
    return arrays, {str(key): value for key, value in content.items() if isinstance(value, int | float | str)}
