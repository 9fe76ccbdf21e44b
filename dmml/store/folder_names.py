"""Which names can be those of a slide's folder in a store, and so ids of slides."""

from __future__ import annotations

import unicodedata


def is_folder_name(name: str) -> bool:
    """Whether a name can be that of a folder directly within another folder.

    Paths, hidden names, the parent folder, zarr's `zarr.json`, control characters and invalid UTF-8 are not accepted.
    """
    if not name or name.startswith(".") or name == "zarr.json" or "/" in name or "\\" in name:
        return False
    if name.isprintable():  # nearly all names; looking at every character takes ten times as long
        return True
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in name)
