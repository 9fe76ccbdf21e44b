"""Whether there is a zarr group at a path, and its root metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dmml.errors import InputError, reason_of
from dmml.store.places import Folder, Remote, place_of
from dmml.store.plain_arrays import describe


def is_store(path: str | Path) -> bool:
    """Whether there is a zarr group at a folder or fsspec URL, of whatever kind."""
    return root_group(place_of(path), path) is not None


def root_group(place: Folder | Remote, path: str | Path) -> dict[str, Any] | None:
    """`zarr.json` of a store's root, None where there is no group.

    Args:
        place: Of the store.
        path: What messages call it.

    Raises:
        InputError: The place cannot be reached, or the file is damaged.
    """
    try:
        root = describe(place, "")
    except InputError:
        raise
    except Exception as error:  # each remote file system raises its own types
        reason = reason_of(error)
        raise InputError(f"{path}: cannot be reached ({reason}); check the path and the access to it") from error
    return root if root is not None and root.get("node_type") == "group" else None
