"""Detection of a zarr group at a path, and its root metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dmml.errors import InputError, reason_of
from dmml.store.backends import Backend, backend_of
from dmml.store.raw_arrays import read_zarr_json


def is_store(path: str | Path) -> bool:
    """Whether a folder or fsspec URL holds a zarr group of any kind."""
    return read_root_group(backend_of(path), path) is not None


def read_root_group(backend: Backend, path: str | Path) -> dict[str, Any] | None:
    """Read the `zarr.json` of a store's root; None if there is no group.

    Args:
        backend: Backend of the store.
        path: Path of the store, for messages.

    Raises:
        InputError: The store cannot be reached, or the file is damaged.
    """
    try:
        root = read_zarr_json(backend, "")
    except InputError:
        raise
    except Exception as error:  # each remote file system raises exceptions of its own types
        reason = reason_of(error)
        raise InputError(f"{path}: cannot be reached ({reason}); check the path and the access to it") from error
    return root if root is not None and root.get("node_type") == "group" else None
