"""Finds the slides among a user's files and folders: by their suffix, and plain images whose scale is known."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dmml.errors import InputError
from dmml.slides.discovery.file_names import in_one_line
from dmml.slides.staging.remote_files import is_url
from dmml.slides.storage.lost_storage import lost_errno
from dmml.slides.wsi.plain_image import PLAIN_SUFFIXES

if TYPE_CHECKING:
    from dmml.slides.staging.staged_slides import StagedSlides

SUFFIXES = (
    ".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".czi", ".dcm",
)  # fmt: skip
"""Suffixes of files in folders that are always slides"""
IMAGE_SUFFIXES = tuple(suffix for suffix in PLAIN_SUFFIXES if suffix not in SUFFIXES)
"""Suffixes of files in folders that are slides only if the user states their µm per pixel: most images are not"""
OVERLAY_SUFFIXES = (".ome.tif", ".dcm")
"""Endings of overlays in folders of predictions, which are no slides although other files of these names are"""
_DMML_FILES = frozenset({"prediction.json", "provenance.json", "metrics.json", "crossval.json", "labels.json"})
"""Files that mark a folder of predictions, runs or simulated labels, whose pictures are not slides"""
_MAX_NAMES = 3
"""Number of files that a message names"""


@dataclass
class FoundFiles:
    """Files in the user's folders, by kind."""

    slides: list[Path] = field(default_factory=list)
    ignored: list[Path] = field(default_factory=list)
    """Files in folders that are not slides"""
    unscaled: list[Path] = field(default_factory=list)
    """Plain images in folders that are skipped because nothing states their µm per pixel"""


def find_slides(
    inputs: Sequence[str | Path],
    has_scale: Callable[[Path], bool] = lambda path: False,
    staged: StagedSlides | None = None,
) -> FoundFiles:
    """Find the slides among files and folders; folders are searched with their subfolders.

    Args:
        inputs: Files, each of which counts as a slide whatever its suffix, and folders.
        has_scale: Whether the user gave the µm per pixel of a plain image.
        staged: Lists inputs that are URLs; None means that there are none.

    Raises:
        InputError: A path does not exist or cannot be listed, or there is no slide.
    """
    files, seen = FoundFiles(), set()
    listed = [_list(path, staged) for path in inputs]
    input_paths = [path for path, _ in listed]
    for input_path, inside in listed:
        for path, is_of_dmml in inside:
            if (real := path.resolve()) not in seen:
                kind = files.slides if path == input_path else _list_for(path, is_of_dmml, has_scale, files)
                kind.append(path)
                if kind is files.slides:
                    seen.add(real)
    for kind in (files.ignored, files.unscaled):  # list a file once, even if it is also an input or in two folders
        kind[:] = {path.resolve(): path for path in kind if path.resolve() not in seen}.values()
    _ignore_pictures_of_slides(files, input_paths)
    if not files.slides:
        raise InputError(
            f"{', '.join(map(str, inputs))}: no slide found ({_why_none(files)}); in folders, slides are files that end "
            f"in {' '.join(SUFFIXES)}, and in {' '.join(IMAGE_SUFFIXES)} if their scale is given"
        )
    return files


def _list(path_or_url: str | Path, staged: StagedSlides | None) -> tuple[Path, list[tuple[Path, bool]]]:
    """Return the path of an input, and its files as `_files_inside` does."""
    if staged is not None and is_url(path_or_url):
        path, inside = staged.find(str(path_or_url))
        return path, [(path, False)] if inside == [path] else _visible(path, inside)
    path = Path(path_or_url)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    return path, _files_inside(path) if path.is_dir() else [(path, False)]


def _visible(folder: Path, paths: Sequence[Path]) -> list[tuple[Path, bool]]:
    """Do what `_files_inside` does, for the files of a folder on object storage."""
    stores = {path.parent for path in paths if path.name == "zarr.json"}
    of_dmml = {path.parent for path in paths if path.name in _DMML_FILES}
    visible = [
        path
        for path in paths
        if stores.isdisjoint(path.parents) and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    return sorted((path, not of_dmml.isdisjoint(path.parents)) for path in visible)


def _list_for(path: Path, is_of_dmml: bool, has_scale: Callable[[Path], bool], files: FoundFiles) -> list[Path]:
    """Return the list to which a file of a folder belongs."""
    suffix = path.suffix.lower()
    if is_of_dmml and path.name.lower().endswith(OVERLAY_SUFFIXES):
        return files.ignored
    if suffix in SUFFIXES:
        return files.slides
    if suffix not in IMAGE_SUFFIXES or is_of_dmml:
        return files.ignored
    return files.slides if has_scale(path) else files.unscaled


def _ignore_pictures_of_slides(files: FoundFiles, inputs: Sequence[Path]) -> None:
    """Ignore plain images in folders that have the name of a slide: they are its thumbnail or preview."""
    names = {path.stem for path in files.slides if path.suffix.lower() in SUFFIXES}
    input_paths = set(inputs)

    def is_picture(path: Path) -> bool:
        return path.suffix.lower() in IMAGE_SUFFIXES and path.stem in names and path not in input_paths

    files.ignored += filter(is_picture, files.slides)
    files.slides = [path for path in files.slides if not is_picture(path)]


def _files_inside(folder: Path) -> list[tuple[Path, bool]]:
    """List the files of a folder and its subfolders, without hidden files and stores.

    Links are followed, and broken links are listed.

    Returns:
        (file, whether dmml wrote its folder or one above it), sorted.
    """
    files: list[tuple[Path, bool]] = []
    visited, of_dmml = set[str](), set[Path]()
    for parent_name, folders, names in os.walk(folder, followlinks=True, onerror=_stop_if_lost):
        parent, real = Path(parent_name), os.path.realpath(parent_name)
        if "zarr.json" in names or real in visited:  # a link may lead back
            folders.clear()
            continue
        visited.add(real)
        if parent.parent in of_dmml or not _DMML_FILES.isdisjoint(names):
            of_dmml.add(parent)
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [(parent / name, parent in of_dmml) for name in names if not name.startswith(".")]
    try:
        return sorted((path, its) for path, its in files if path.is_file() or (path.is_symlink() and not path.exists()))
    except OSError as error:
        _stop_if_lost(error)
        raise


def _stop_if_lost(error: OSError) -> None:
    """Stop if a folder cannot be listed because of its storage: its slides would be left out without a word.

    Raises:
        InputError: The storage does not answer.
    """
    if lost_errno(error):
        raise InputError(
            f"{error.filename}: cannot be listed ({error.strerror}); run the same command again once its storage answers"
        ) from error


def _why_none(files: FoundFiles) -> str:
    reasons = [text for text in (describe_unscaled(files.unscaled), describe_ignored(files.ignored)) if text]
    return "; ".join(reasons) or "the folder is empty"


def describe_unscaled(unscaled: Sequence[Path]) -> str:
    """Describe in one line the plain images that are skipped, and how to turn them into slides."""
    if not unscaled:
        return ""
    plural = "" if len(unscaled) == 1 else "s"
    return (
        f"{len(unscaled)} plain image{plural} skipped, since nothing states the µm per pixel: {_names(unscaled)}; give it "
        "with --mpp"
    )


def describe_ignored(ignored: Sequence[Path]) -> str:
    """Describe in one line the ignored files, by suffix, with the names of the first ones."""
    if not ignored:
        return ""
    counts = Counter(path.suffix.lower() or "no suffix" for path in ignored)
    kinds = ", ".join(f"{n} {suffix}" for suffix, n in counts.most_common(6))
    return f"ignored {len(ignored)} files that are not slides: {kinds} ({_names(ignored)})"


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(in_one_line(path.name) for path in paths[:_MAX_NAMES]) + (", …" if len(paths) > _MAX_NAMES else "")
