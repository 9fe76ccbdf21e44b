"""Reads the parts of an AnnData file that a table of RNA needs; the parts are checked before anndata is imported."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from dmml.errors import InputError, reason_of

if TYPE_CHECKING:
    import h5py

RAW = "raw"
"""Name of the values that scanpy keeps in `.raw`, unless a layer has this name"""


class H5adParts(NamedTuple):
    """Where a file keeps its parts, and what they are called."""

    values: str
    """Path of the values inside the file"""
    var: str
    """Path of the table of the columns of the values"""
    obs_columns: Sequence[str]
    var_columns: Sequence[str]
    log_base: float | None
    """Base b of scanpy's log_b(x + 1), which it notes in `uns`; None if it noted none"""


def open_parts(file: h5py.File, path: Path, layer: str | None) -> H5adParts:
    """Find the parts of a file.

    Args:
        file: The open file.
        path: Its path, for messages.
        layer: Name of the layer of the values; None means `X`.

    Raises:
        InputError: It is not the file of an AnnData object, or it has no such layer.
    """
    if not {"obs", "var"} <= set(file):
        raise InputError(
            f"{path}: holds {', '.join(sorted(file)) or 'nothing'}, not obs and var; give a file that AnnData wrote"
        )
    values, var = _values_of(file, path, layer)
    if not all("column-order" in file[name].attrs for name in ("obs", var)):
        raise InputError(
            f"{path}: was written by a version of anndata before 0.7; read and write it again with a current one"
        )
    obs_columns, var_columns = (list(map(str, file[name].attrs["column-order"])) for name in ("obs", var))
    return H5adParts(values, var, obs_columns, var_columns, _log_base(file))


def _values_of(file: h5py.File, path: Path, layer: str | None) -> tuple[str, str]:
    """Return the paths of the values and of the table of their columns."""
    layers = sorted(file["layers"]) if "layers" in file else []
    has_raw = RAW in file and "X" in file[RAW] and "var" in file[RAW]
    if layer in layers:
        return f"layers/{layer}", "var"
    if layer == RAW and has_raw:
        return f"{RAW}/X", f"{RAW}/var"
    if layer is None and "X" in file:
        return "X", "var"
    available = ", ".join([*layers, *([RAW] if has_raw else [])]) or "none"
    missing = "has no X" if layer is None else f"has no layer {layer!r}"
    raise InputError(f"{path}: {missing}; name one of its layers with --layer (expression: layer): {available}")


def _log_base(file: h5py.File) -> float | None:
    if "uns" not in file or "log1p" not in file["uns"]:
        return None
    note = file["uns/log1p"]
    base = note["base"] if hasattr(note, "keys") and "base" in note else None
    try:
        return float(base[()]) if base is not None else math.e
    except (TypeError, ValueError):  # scanpy notes None for the natural logarithm
        return math.e


def shape_of(file: h5py.File, values: str) -> tuple[int, int]:
    """Number of rows and columns of the values, dense or sparse."""
    node = file[values]
    rows, columns = node.attrs["shape"] if hasattr(node, "keys") else node.shape
    return int(rows), int(columns)


def read_frame(file: h5py.File, path: Path, name: str) -> pd.DataFrame:
    """Read `obs` or `var`.

    Raises:
        InputError: It is damaged.
    """
    frame = _read_element(file, path, name)
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"{path}: its {name} is not a table; give a file that AnnData wrote")
    return frame


def read_values(file: h5py.File, path: Path, name: str) -> np.ndarray:
    """Read values as (rows, columns) float64, whether they are kept dense or sparse.

    Raises:
        InputError: They are damaged, are not numbers, or one is infinite.
    """
    values: Any = _read_element(file, path, name)
    values = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
    if values.ndim != 2 or values.dtype.kind not in "fiub":
        raise InputError(f"{path}: its {name} is not a matrix of numbers; name a layer that is one with --layer")
    values = values.astype(np.float64)
    if np.isinf(values).any():
        row, column = np.argwhere(np.isinf(values))[0]
        raise InputError(
            f"{path}: its {name} is infinite in row {row + 1}, column {column + 1}; correct it, or set it to NaN"
        )
    return values


def _read_element(file: h5py.File, path: Path, name: str) -> object:
    try:
        from anndata.io import read_elem
    except ImportError as error:
        raise InputError(f"{path}: reading .h5ad needs a package: pip install 'dmml[anndata]'") from error
    try:
        with warnings.catch_warnings(action="ignore"):  # about later versions, of which the user knows nothing
            return read_elem(file[name])
    except Exception as error:  # anndata wraps errors of HDF5 in several types of its own
        raise InputError(
            f"{path}: its {name} cannot be read ({reason_of(error)[:120]}); write the file again"
        ) from error


def require_name(path: Path, names: Sequence[str], name: str, what: str) -> None:
    """Refuse a name that a table does not have.

    Args:
        path: The file, for the message.
        names: Columns of the table.
        name: The name.
        what: The table and the option that names the column, for the message.
    """
    if name not in names:
        listed = ", ".join(names[:12]) + (f", … ({len(names)} in all)" if len(names) > 12 else "")
        raise InputError(f"{path}: no column {name!r} in its {what}; its columns are: {listed or 'none'}")


def text_columns(frame: pd.DataFrame) -> Mapping[str, list[str]]:
    """{column: values} of the columns of words, and of whole numbers, which may be Entrez ids."""
    kept = {name: column for name, column in frame.items() if not pd.api.types.is_float_dtype(column)}
    return {
        str(name): ["" if pd.isna(value) else str(value).strip() for value in column] for name, column in kept.items()
    }
