"""Finds the files of slides by what was recorded of them, and refuses a file with another content."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dmml.errors import InputError
from dmml.slides.discovery.find import find_slides
from dmml.slides.wsi.file_identity import is_same_file


class SlideFiles:
    """Slides in the files and folders that the user named.

    Args:
        inputs: Files and folders; folders are searched with their subfolders.

    Raises:
        InputError: A path does not exist, or there is no slide.
    """

    def __init__(self, inputs: Sequence[str | Path]):
        paths = find_slides(inputs, lambda path: True).slides if inputs else []
        self._named = [path for path in paths if path in {Path(each) for each in inputs}]
        self._by_name, self._by_stem = defaultdict(list), defaultdict(list)
        for path in paths:
            self._by_name[path.name].append(path)
            self._by_stem[path.stem].append(path)

    def find(self, slide_id: str, record: Mapping[str, Any]) -> Path | None:
        """Return the file of a slide; None if no file has its name.

        A file that the user named counts whatever it is called, since slides may be renamed.

        Args:
            slide_id: Id of the slide, which is the name of its file without suffix.
            record: What was recorded of its file; may be empty.

        Raises:
            InputError: Every file that could be the slide has another content.
        """
        candidates = self._by_name[record.get("source", "")] or self._by_stem[slide_id] or self._named
        return same_file(candidates, slide_id, record)


def same_file(candidates: Sequence[Path], slide_id: str, record: Mapping[str, Any]) -> Path | None:
    """Return the first file with the recorded content, or the first file if none was recorded; None without files.

    Raises:
        InputError: There are files, and all of them have another content.
    """
    if not candidates or "source_bytes" not in record:
        return candidates[0] if candidates else None
    for path in candidates:
        if is_same_file(path, record):
            return path
    raise InputError(
        f"{candidates[0]}: is not the file that was read as slide {slide_id!r}, its content differs from the recorded "
        "fingerprint; name the right file or its folder with --slides, or view the thumbnail with --thumbnails"
    )


def named_in_command(command: str, source: str) -> list[Path]:
    """Return the files of this name to which the recorded command of an answer leads from the working directory.

    Args:
        command: As typed, such as `dmml predict-slide slides --ckpt_path …`.
        source: Name of the slide's file; empty if it was not recorded.
    """
    if not source:
        return []
    try:
        words = shlex.split(command)[2:]
    except ValueError:
        return []
    inputs = [Path(word) for word in _before_options(words)]
    named = [path for path in inputs if path.name == source and path.is_file()]
    return named + [path for folder in inputs if folder.is_dir() for path in sorted(folder.rglob(source))]


def _before_options(words: Sequence[str]) -> list[str]:
    first = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    return list(words[:first])
