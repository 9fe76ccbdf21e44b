"""Finds the slides among a user's files and folders: by their suffix, and plain images whose scale is known."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dmml.errors import InputError
from dmml.slides.discovery.file_names import in_one_line
from dmml.slides.wsi.plain_image import PLAIN_SUFFIXES

SUFFIXES = (
    ".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".czi", ".dcm",
)  # fmt: skip
"""Suffixes of files in folders that are always slides"""
IMAGE_SUFFIXES = tuple(suffix for suffix in PLAIN_SUFFIXES if suffix not in SUFFIXES)
"""Suffixes of files in folders that are slides only if the user states their µm per pixel: most images are not"""
_OF_DMML = frozenset({"prediction.json", "provenance.json", "metrics.json", "crossval.json", "labels.json"})
"""Files that mark a folder of predictions, runs or simulated labels, whose pictures are not slides"""
_NAMED = 3


@dataclass
class FoundFiles:
    """Files in the user's folders, by kind."""

    slides: list[Path] = field(default_factory=list)
    ignored: list[Path] = field(default_factory=list)
    """Files in folders that are not slides"""
    unscaled: list[Path] = field(default_factory=list)
    """Plain images in folders that are skipped because nothing states their µm per pixel"""


def find_slides(inputs: Iterable[str | Path], has_scale: Callable[[Path], bool] = lambda path: False) -> FoundFiles:
    """Find the slides among files and folders; folders are searched with their subfolders.

    Args:
        inputs: Files, each of which counts as a slide whatever its suffix, and folders.
        has_scale: Whether the user gave the µm per pixel of a plain image.

    Raises:
        InputError: A path does not exist, or there is no slide.
    """
    found, seen = FoundFiles(), set()
    inputs = [Path(given) for given in inputs]
    for given in inputs:
        if not given.exists():
            raise InputError(f"{given}: no such file or folder")
        for path, of_dmml in _inside(given) if given.is_dir() else [(given, False)]:
            if (real := path.resolve()) not in seen:
                kind = found.slides if path == given else _kind(path, of_dmml, has_scale, found)
                kind.append(path)
                if kind is found.slides:
                    seen.add(real)
    for kind in (found.ignored, found.unscaled):  # list a file once, even if it is also an input or in two folders
        kind[:] = {path.resolve(): path for path in kind if path.resolve() not in seen}.values()
    _ignore_pictures_of_slides(found, inputs)
    if not found.slides:
        raise InputError(
            f"{', '.join(map(str, inputs))}: no slide found ({_why_none(found)}); known in folders: {' '.join(SUFFIXES)}, "
            f"and {' '.join(IMAGE_SUFFIXES)} where their scale is given"
        )
    return found


def _kind(path: Path, of_dmml: bool, has_scale: Callable[[Path], bool], found: FoundFiles) -> list[Path]:
    """Return the list to which a file of a folder belongs."""
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return found.slides
    if suffix not in IMAGE_SUFFIXES or of_dmml:
        return found.ignored
    return found.slides if has_scale(path) else found.unscaled


def _ignore_pictures_of_slides(found: FoundFiles, inputs: Sequence[Path]) -> None:
    """Ignore plain images in folders that have the name of a slide: they are its thumbnail or preview."""
    names = {path.stem for path in found.slides if path.suffix.lower() in SUFFIXES}
    for path in [path for path in found.slides if path.suffix.lower() in IMAGE_SUFFIXES and path.stem in names]:
        if path not in inputs:
            found.slides.remove(path)
            found.ignored.append(path)


def _inside(folder: Path) -> list[tuple[Path, bool]]:
    """List the files of a folder and its subfolders, without hidden files and stores.

    Links are followed, and broken links are listed.

    Returns:
        (file, whether dmml wrote its folder or one above it), sorted.
    """
    found, seen, of_dmml = [], set(), set()
    for where, folders, names in os.walk(folder, followlinks=True):
        here, place = Path(where), os.path.realpath(where)
        if "zarr.json" in names or place in seen:  # a link may lead back
            folders.clear()
            continue
        seen.add(place)
        if here.parent in of_dmml or not _OF_DMML.isdisjoint(names):
            of_dmml.add(here)
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [(here / name, here in of_dmml) for name in names if not name.startswith(".")]
    return sorted((path, its) for path, its in found if path.is_file() or (path.is_symlink() and not path.exists()))


def _why_none(found: FoundFiles) -> str:
    told = [text for text in (describe_unscaled(found.unscaled), describe_ignored(found.ignored)) if text]
    return "; ".join(told) or "the folder is empty"


def describe_unscaled(unscaled: Sequence[Path]) -> str:
    """Describe in one line the plain images that are skipped, and how to turn them into slides."""
    if not unscaled:
        return ""
    one = len(unscaled) == 1
    return (
        f"{len(unscaled)} plain image{'' if one else 's'} skipped, since nothing states the µm per pixel: "
        f"{_names(unscaled)}; give it with --mpp"
    )


def describe_ignored(ignored: Sequence[Path]) -> str:
    """Describe in one line the ignored files, by suffix, with the names of the first ones."""
    if not ignored:
        return ""
    counts = Counter(path.suffix.lower() or "no suffix" for path in ignored)
    kinds = ", ".join(f"{n} {suffix}" for suffix, n in counts.most_common(6))
    return f"ignored {len(ignored)} files that are not slides: {kinds} ({_names(ignored)})"


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(in_one_line(path.name) for path in paths[:_NAMED]) + (", …" if len(paths) > _NAMED else "")
