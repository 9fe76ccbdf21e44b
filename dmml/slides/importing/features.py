"""Reads tile features of other tools: HDF5 files of TRIDENT, CLAM and STAMP, and plain tensors with coordinates."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dmml.errors import InputError
from dmml.slides.importing.cutting import Cutting, cutting_of, extractor_of, text_of
from dmml.slides.wsi.mpp import SlideError

FEATURE_NAMES = ("features", "feats")
COORDINATE_NAMES = ("coords", "coordinates")


@dataclass(frozen=True)
class ForeignSlide:
    """Features of one slide as a file holds them."""

    features: np.ndarray
    """(N, D) float"""
    corner: np.ndarray
    """(N, 2) float64, upper left corner of each tile in pixels of the finest level, or in µm if `cutting.in_um`"""
    cutting: Cutting
    encoder: str = ""
    """Name of the encoder, if the file states it"""


def read_foreign(path: Path, coordinates: Path | None = None) -> ForeignSlide:
    """Read one file of features.

    Args:
        path: `.h5`, or `.pt` with a plain tensor (or a mapping of plain tensors).
        coordinates: HDF5 file with the coordinates, for features without coordinates in their file.

    Raises:
        SlideError: The file cannot be used; `state` is the keyword for the reason.
    """
    held, told = _read_tensors(path) if path.suffix.lower() in (".pt", ".pth") else _read_hdf5(path)
    if (kind := text_of(told.get("feat_type"))) not in ("", "tile"):
        raise SlideError("not_tiles", f"{path}: holds features of a {kind} (feat_type), not of its tiles; give those")
    features = next((held[name] for name in FEATURE_NAMES if name in held), None)
    if features is None:
        raise SlideError(
            "no_features",
            f"{path}: holds {_names_in(path, held)}, and neither {' nor '.join(FEATURE_NAMES)}; name the folder of features, or "
            "rename them in the file",
        )
    corner = next((held[name] for name in COORDINATE_NAMES if name in held), None)
    if corner is None:
        if coordinates is None:
            raise SlideError(
                "no_coordinates", f"{path}: features without coordinates; name the folder that has them with --coords"
            )
        held, coordinates_told = _read_hdf5(coordinates)
        told = {**told, **coordinates_told}
        corner = next((held[name] for name in COORDINATE_NAMES if name in held), None)
        if corner is None:
            raise SlideError("no_coordinates", f"{coordinates}: holds {sorted(held) or 'nothing'}, no coords")
    if features.ndim == 3 and features.shape[0] == 1:
        features = features[0]
    _check(path, features, corner)
    cutting, corner = cutting_of(path, told, corner[:, :2].astype(np.float64))
    return ForeignSlide(features, corner, cutting, extractor_of(told))


def _check(path: Path, features: np.ndarray, corner: np.ndarray) -> None:
    if features.ndim != 2 or features.dtype.kind not in "fiu":
        raise SlideError("not_tiles", f"{path}: features are {features.shape}, not one row a tile; is it slide-level?")
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
        raise SlideError("not_finite", f"{path}: features hold NaN or more than float16 holds; extract the slide again")
    if not np.isfinite(corner).all():
        raise SlideError("no_coordinates", f"{path}: coords hold NaN")


def _read_hdf5(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read the known data sets, and all attributes of the file and of these data sets."""
    try:
        import h5py
    except ImportError as error:
        raise InputError(f"{path}: reading HDF5 needs a package: pip install h5py") from error
    try:
        with h5py.File(path, "r") as file:
            wanted = [name for name in (*FEATURE_NAMES, *COORDINATE_NAMES) if isinstance(file.get(name), h5py.Dataset)]
            told = dict(file.attrs)
            for name in wanted:
                told.update(file[name].attrs)
            return {name: file[name][()] for name in wanted}, told
    except OSError as error:
        reason = " ".join(str(error).split())
        raise SlideError("unopenable", f"{path}: no whole HDF5 file ({reason}); extract the slide again") from error


def _names_in(path: Path, held: Mapping[str, np.ndarray]) -> str:
    """List what a file without features holds, including the data sets of an HDF5 file that were not read."""
    import h5py

    names = list(held)
    if h5py.is_hdf5(path):
        with h5py.File(path, "r") as file:
            names = list(file)
    return ", ".join(sorted(names)) or "nothing"


def _read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a PyTorch file of plain tensors; anything that would have to be unpickled is refused."""
    import torch

    try:
        with warnings.catch_warnings(action="ignore"):  # about pickles, which are refused anyway
            held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise SlideError(
            "not_plain",
            f"{path}: no file of plain tensors, and no other is ever loaded; save the features with torch.save(tensor)",
        ) from error
    if isinstance(held, torch.Tensor):
        held = {"features": held}
    if not isinstance(held, Mapping):
        raise SlideError("not_plain", f"{path}: holds a {type(held).__name__}, no tensor; save the features alone")
    tensors = {k: v for k, v in held.items() if isinstance(v, torch.Tensor)}
    arrays = {str(k): (v.float() if v.dtype == torch.bfloat16 else v).numpy() for k, v in tensors.items()}
    return arrays, {str(k): v for k, v in held.items() if isinstance(v, int | float | str)}
