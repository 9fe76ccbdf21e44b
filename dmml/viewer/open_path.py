"""Decides what a path holds - answers, a run or a store - and returns its slides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dmml.errors import InputError
from dmml.store.root_group import is_store
from dmml.viewer.answers import answer_folders, slides_of_answer
from dmml.viewer.runs import slides_of_run
from dmml.viewer.slide_files import SlideFiles
from dmml.viewer.stores import slides_of_store
from dmml.viewer.viewed_slide import ViewedSlide

_KINDS = "an answer of `dmml predict-slide`, a folder of answers, a run that was tested, or a feature store"


@dataclass(frozen=True)
class Collection:
    """What the viewer shows: its title, such as `Answer cmu_small_region`, and its slides, at least one."""

    title: str
    slides: Sequence[ViewedSlide]


def open_path(path: str, slides: Sequence[str | Path] = (), thumbnails: bool = False) -> Collection:
    """Open whatever a path holds.

    Args:
        path: Folder of an answer, of answers or of a run, or folder or URL of a store.
        slides: Files and folders with the slides.
        thumbnails: Whether to show thumbnails only, and not to look for the slides' files.

    Raises:
        InputError: The path holds nothing that can be viewed, or a slide's file is not the one that was read.
    """
    files = None if thumbnails else SlideFiles(slides)
    name = Path(path).resolve().name
    if "://" in path or (Path(path).exists() and is_store(path)):
        return Collection(f"Store {name}", slides_of_store(path, files))
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"{path}: no such folder; name {_KINDS}")
    if answers := answer_folders(folder):
        opened = [slide for each in answers for slide in slides_of_answer(each, files)]
        return Collection(f"Answer{'s' if len(answers) > 1 else ''} {name}", opened)
    if not any((folder / mark).exists() for mark in ("test", "checkpoints", "config.yaml", "predictions.csv")):
        raise InputError(f"{path}: holds nothing to view; name {_KINDS}")
    return Collection(f"Run {name}", slides_of_run(folder, files))
