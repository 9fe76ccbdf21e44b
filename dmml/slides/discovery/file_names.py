"""Checks whether file names can be slide ids, and prints any name in one line of UTF-8."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from dmml.slides.slide_error import SlideError
from dmml.store.folder_names import is_folder_name


def in_one_line(path: str | Path) -> str:
    """Return the path with control characters and bytes that are not UTF-8 written as escapes."""
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in ("Cc", "Cs") else character
        for character in str(path)
    )


def check_name(path: Path) -> None:
    """Check that a file's name can be the id of a slide.

    Raises:
        SlideError: State `bad_name`.
    """
    if not is_folder_name(path.stem):
        raise SlideError(
            "bad_name",
            f"{in_one_line(path)}: without its suffix the name is {path.stem!a}, which cannot be the id of a "
            "slide; rename the file, without a leading dot, backslashes or control characters",
        )
