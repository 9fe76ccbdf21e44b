"""Zarr v3 arrays of one uncompressed chunk, written and memory-mapped directly; any other array is read by zarr.

Half-precision features barely compress (zstd saves 7 % and reads at an eighth of the speed), and a slide is always
read whole, so training waits least with one raw chunk per array.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from hashlib import blake2b
from sys import intern
from typing import Any

import numpy as np

from dmml.errors import InputError
from dmml.store.backends import Backend

_ENDIAN = {"name": "bytes", "configuration": {"endian": "little"}}
_NO_ENDIAN = ({"name": "bytes"}, {"name": "bytes", "configuration": {}})
_KEYS = (
    {"name": "default", "configuration": {"separator": "/"}},
    {"name": "default"},
)


ArrayHeader = tuple[str, tuple[int, ...]]
"""Data type ("" if zarr has to read the array) and shape; small, since a store has many arrays"""
_MAX_HEADERS = 4096
"""Number of headers that are kept parsed"""
_parsed_headers: dict[bytes, ArrayHeader] = {}
"""{hash of the content of a `zarr.json`: header}; parsing takes ten times as long as hashing"""


def group_json(attributes: dict[str, Any]) -> bytes:
    """Content of the `zarr.json` of a group."""
    return _json({"attributes": attributes, "zarr_format": 3, "node_type": "group"})


def array_files(name: str, values: np.ndarray) -> Iterator[tuple[str, bytes | memoryview]]:
    """Yield (path, content) of each file of an array."""
    if sys.byteorder != "little":
        values = values.astype(values.dtype.newbyteorder("<"))
    values = np.ascontiguousarray(values)
    yield (
        f"{name}/zarr.json",
        _json(
            {
                "shape": list(values.shape),
                "data_type": str(values.dtype.newbyteorder("=")),
                "chunk_grid": {
                    "name": "regular",
                    "configuration": {"chunk_shape": [max(1, side) for side in values.shape]},
                },
                "chunk_key_encoding": _KEYS[0],
                "fill_value": 0.0 if values.dtype.kind == "f" else 0,
                "codecs": [_ENDIAN if values.dtype.itemsize > 1 else _NO_ENDIAN[0]],
                "attributes": {},
                "zarr_format": 3,
                "node_type": "array",
                "storage_transformers": [],
            }
        ),
    )
    if values.size:
        yield f"{name}/{_chunk_key(values.shape)}", values.data.cast("B")


def read_zarr_json(backend: Backend, name: str) -> dict[str, Any] | None:
    """Read the `zarr.json` of an array or group; None if it does not exist.

    Raises:
        InputError: The file is damaged.
    """
    content = _read_metadata(backend, name)
    if content is None:
        return None
    try:
        return _parsed(content)
    except ValueError as error:
        raise _damaged(backend, name) from error


def read_array_header(backend: Backend, name: str) -> ArrayHeader | None:
    """Read the data type and the shape that `read_array` needs; None if there is no array of that name.

    Raises:
        InputError: The `zarr.json` is damaged or does not describe an array.
    """
    content = _read_metadata(backend, name)
    if content is None:
        return None
    try:
        header = _header(content)
    except ValueError as error:
        raise _damaged(backend, name) from error
    if header is None:
        raise InputError(f"{backend.path}/{name}: is not an array; extract this slide again with --overwrite")
    return header


def _read_metadata(backend: Backend, name: str) -> bytes | None:
    return backend.read(f"{name}/zarr.json" if name else "zarr.json")


def _parsed(content: bytes) -> dict[str, Any]:
    """Parse the content of a `zarr.json`; raises `ValueError` if it is damaged."""
    metadata = json.loads(content)
    if not isinstance(metadata, dict):
        raise ValueError(f"{type(metadata).__name__} instead of an object")
    return metadata


def _header(content: bytes) -> ArrayHeader | None:
    """Parse the content of an array's `zarr.json`, which arrays of the same shape have in common; None for no array.

    Raises:
        ValueError: The content is damaged.
    """
    key = blake2b(content, digest_size=16).digest()
    if (header := _parsed_headers.get(key)) is not None:
        return header
    metadata = _parsed(content)
    if metadata.get("node_type") != "array" or not isinstance(metadata.get("shape"), list):
        return None
    header = intern(metadata["data_type"]) if _is_raw(metadata) else "", tuple(metadata["shape"])
    if len(_parsed_headers) >= _MAX_HEADERS:
        _parsed_headers.clear()
    return _parsed_headers.setdefault(key, header)


def _damaged(backend: Backend, name: str) -> InputError:
    return InputError(
        f"{backend.path}/{name}: its zarr.json is damaged; `dmml features verify` lists the slides to extract again"
    )


def read_array(backend: Backend, url: str, name: str, header: ArrayHeader) -> np.ndarray:
    """Read the values of an array; one raw chunk in a local folder is memory-mapped unless it is small.

    Args:
        backend: Backend of the store.
        url: Folder or URL of the store, for arrays that zarr reads.
        name: Path of the array within the store.
        header: Data type and shape, from `read_array_header`.

    Raises:
        InputError: The array's file does not have the expected length.
    """
    data_type, shape = header
    if not data_type:
        import zarr

        return np.asarray(zarr.open_array(f"{url}/{name}", mode="r")[:])
    dtype = np.dtype(data_type).newbyteorder("<")
    content = backend.view(f"{name}/{_chunk_key(shape)}") if math.prod(shape) else b""
    expected = math.prod(shape) * dtype.itemsize
    if len(content) == 0 and expected:
        return np.zeros(shape, dtype)  # zarr writes no file for a chunk that holds nothing but the fill value
    if len(content) != expected:
        raise InputError(
            f"{backend.path}/{name}: {len(content):,} bytes instead of {expected:,}; extract this slide again with "
            "--overwrite"
        )
    return np.frombuffer(content, dtype).reshape(shape)


def _is_raw(metadata: dict[str, Any]) -> bool:
    """Whether an array is one chunk of raw little-endian numbers with fill value 0; the chunk may be left out."""
    return (
        metadata.get("data_type") in ("float16", "float32", "int32", "uint8")
        and metadata["chunk_grid"].get("name") == "regular"
        and metadata["chunk_grid"]["configuration"]["chunk_shape"] == [max(1, side) for side in metadata["shape"]]
        and metadata.get("chunk_key_encoding") in _KEYS
        and metadata.get("fill_value") == 0
        and metadata.get("codecs") in ([_ENDIAN], *([codec] for codec in _NO_ENDIAN))
    )


def _chunk_key(shape: tuple[int, ...]) -> str:
    return "/".join(("c", *("0" for _ in shape)))


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=2, default=_as_number).encode()


def _as_number(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"attributes of a slide must be plain values, not {type(value).__name__}")
