"""Finds the feature files among a user's files and folders, including the folders of TRIDENT, CLAM and slide2vec."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dmml.errors import InputError
from dmml.slides.importing import slide2vec
from dmml.slides.importing.tile_spec import JOB_FOLDER

SUFFIXES = (".h5", ".hdf5", ".pt", ".pth")


def find_files(inputs: Sequence[str | Path], encoder: str | None) -> dict[str, list[Path]]:
    """Collect {slide_id: files}; a slide may have one file per magnification.

    Raises:
        InputError: A path does not exist, there is no file of features, or several encoders to choose from.
    """
    files: dict[Path, Path] = {}
    for input_path in map(Path, inputs):
        if not input_path.exists():
            raise InputError(f"{input_path}: no such file or folder")
        for path in _files_inside(input_path, encoder) if input_path.is_dir() else [input_path]:
            files.setdefault(path.resolve(), path)
    if not files:
        raise InputError(
            f"{', '.join(map(str, inputs))}: no features found; give files or folders of {' '.join(SUFFIXES)}, "
            "a TRIDENT job folder, or the folder of a slide2vec run"
        )
    by_slide: dict[str, list[Path]] = {}
    for path in files.values():
        by_slide.setdefault(path.stem, []).append(path)
    return by_slide


def _files_inside(folder: Path, encoder: str | None) -> list[Path]:
    """List a folder's feature files: `features_<encoder>` of a TRIDENT job, slide2vec's, CLAM's HDF5 before its `.pt`."""
    suffixes: tuple[str, ...] = SUFFIXES
    job_folders = [path for path in (folder, *folder.rglob("*")) if path.is_dir() and JOB_FOLDER.match(path.name)]
    if job_folders:
        folders = [path for job in job_folders for path in job.glob("features_*") if path.is_dir()]
        names = sorted({path.name.removeprefix("features_") for path in folders})
        if encoder is None and len(names) > 1:
            raise InputError(
                f"{folder}: holds features of {', '.join(names)}; choose one with --encoder, each for a store of its own"
            )
        if encoder is not None and names and encoder not in names:
            raise InputError(f"{folder}: holds no features of {encoder}, only of {', '.join(names)}")
        roots = [path for path in folders if encoder in (None, path.name.removeprefix("features_"))]
    elif folders := slide2vec.tile_folders(folder):
        roots, suffixes = folders, (*SUFFIXES, slide2vec.ARCHIVE)
    else:
        # CLAM's folder `patches` next to these contains only coordinates.
        roots = next(([folder / name] for name in ("h5_files", "pt_files") if (folder / name).is_dir()), [folder])
    files = (path for root in roots for path in root.rglob("*") if path.suffix.lower() in suffixes)
    return sorted(path for path in files if not path.name.startswith("._"))  # macOS adds `._<name>` to each file


def coordinates_of(path: Path, coords: str | Path | None) -> Path | None:
    """Find the file of coordinates in the given folder, or where CLAM, TRIDENT and slide2vec put it."""
    folders = [Path(coords)] if coords is not None else [path.parent.parent / n for n in ("patches", "h5_files")]
    names = [f"{path.stem}{ending}" for ending in (".h5", "_patches.h5")]
    candidates = [folder / name for folder in folders for name in names]
    candidates += slide2vec.coordinate_paths(path, None if coords is None else Path(coords))
    return next((candidate for candidate in candidates if candidate.is_file()), None)
