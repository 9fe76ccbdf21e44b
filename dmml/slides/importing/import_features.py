"""Imports features of other tools into a store: nested magnifications if the coordinates allow, otherwise only one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dmml.errors import InputError
from dmml.slides.discovery.file_identity import fingerprint
from dmml.slides.discovery.file_names import check_name, in_one_line
from dmml.slides.encoders.known import seen_in_training
from dmml.slides.extraction.companions import FAILURES, beside, prefix_of
from dmml.slides.extraction.failures import Failure, record_failures
from dmml.slides.importing.cutting import PARAMETERS, Cutting
from dmml.slides.importing.features import ForeignSlide, read_foreign
from dmml.slides.importing.placement import check_placement, complete_cutting, placement_doubts, unused_options
from dmml.slides.tiling.nesting import parents_of, why_not_nested
from dmml.slides.wsi.mpp import SlideError, check_given
from dmml.store import FeatureStore, SlideFeatures, is_store
from dmml.store.checks import zero_rows

SUFFIXES = (".h5", ".hdf5", ".pt", ".pth")


@dataclass
class Import:
    """The outcome of an import."""

    written: list[str] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    failures_file: str = ""
    magnifications: tuple[int, ...] = ()
    tile_px: int = 0
    dim: int = 0
    not_nested: str = ""
    """Why only one of two magnifications was imported; empty if both were"""
    warnings: list[str] = field(default_factory=list)
    """Warnings: the encoder was pre-trained on the slides' collection, tiles contain only zeros or lie oddly"""


@dataclass(frozen=True)
class _Planned:
    """A file that was checked: its tiles without their features, since all features may not fit into memory."""

    path: Path
    coordinates: Path | None
    slide: ForeignSlide
    dim: int


_Plan = dict[str, dict[int, _Planned]]
"""{slide_id: {magnification: file}}"""


def import_features(
    inputs: Sequence[str | Path],
    out: str | Path,
    encoder: str | None = None,
    coords: str | Path | None = None,
    magnification: int | None = None,
    patch_px: int | None = None,
    level0_px: float | None = None,
    mpp: float | None = None,
) -> Import:
    """Write the features of other tools into a store.

    Args:
        inputs: Files (`.h5`, `.pt`), folders of them, or a TRIDENT job folder.
        out: Store to create or to add to.
        encoder: Name of the encoder; if None, it is taken from TRIDENT's folder `features_<name>` or from the files.
        coords: Folder of HDF5 files with coordinates, for feature files that contain none.
        magnification: 10 / (µm per pixel of a tile), used if the files do not state it.
        patch_px: Side of a tile in pixels of its magnification, used if the files do not state it.
        level0_px: Side of a tile in pixels of the finest level, used if the files do not state it. Files whose tiles
            are closer together are refused.
        mpp: µm per pixel of the finest level; takes precedence over the files, unless their coordinates are in µm.

    Raises:
        InputError: Nothing can be imported, or the store was made with another encoder, magnification or tile size.
    """
    if mpp is not None:
        check_given(mpp)
    found = _find(inputs, encoder)
    given = Cutting(magnification, patch_px, level0_px, mpp, "--mpp" if mpp else "")
    out = str(out).removeprefix("file://")
    result = Import(failures_file=beside(out, prefix_of(out) + FAILURES))
    planned = _plan(found, coords, given, result)
    if not planned:
        raise InputError(_nothing(result.failures))
    name = encoder or _encoder_name(found, planned)
    result.warnings[:0] = [*_other_encoders(encoder, planned), *filter(None, [seen_in_training(name, planned)])]
    scales = sorted({m for files in planned.values() for m in files})
    if len(scales) > 2:
        raise InputError(f"{len(scales)} magnifications found ({scales}); name the folders of two, or of one")
    if len(scales) == 2:
        pairs = {s: tuple(files[m].slide for m in scales) for s, files in planned.items() if set(files) == set(scales)}
        result.not_nested = why_not_nested(pairs, scales)
        scales = scales[1:] if result.not_nested else scales
    _keep_common(planned, result)
    _write(planned, scales, out, name, result)
    seen = [in_one_line(path) for files in found.values() for path in files]
    record_failures(result.failures_file, result.failures, seen)
    if not (result.written or result.passed_over):
        raise InputError(_nothing(result.failures))
    return result


def _find(inputs: Sequence[str | Path], encoder: str | None) -> dict[str, list[Path]]:
    """Collect {slide_id: files}; a slide may have one file per magnification."""
    files: dict[Path, Path] = {}
    for given in map(Path, inputs):
        if not given.exists():
            raise InputError(f"{given}: no such file or folder")
        for path in _inside(given, encoder) if given.is_dir() else [given]:
            files.setdefault(path.resolve(), path)
    if not files:
        raise InputError(
            f"{', '.join(map(str, inputs))}: no features found; give files or folders of {' '.join(SUFFIXES)}, "
            "or a TRIDENT job folder"
        )
    found: dict[str, list[Path]] = {}
    for path in files.values():
        found.setdefault(path.stem, []).append(path)
    return found


def _inside(folder: Path, encoder: str | None) -> list[Path]:
    """List a folder's feature files: `features_<encoder>` of a TRIDENT job; for CLAM, HDF5 in preference to `.pt`."""
    cut = [path for path in (folder, *folder.rglob("*")) if path.is_dir() and PARAMETERS.match(path.name)]
    if cut:
        folders = [path for part in cut for path in part.glob("features_*") if path.is_dir()]
        names = sorted({path.name.removeprefix("features_") for path in folders})
        if encoder is None and len(names) > 1:
            raise InputError(f"{folder}: features of {', '.join(names)}; choose one with --encoder, one store each")
        if encoder is not None and names and encoder not in names:
            raise InputError(f"{folder}: no features of {encoder}; there are {', '.join(names)}")
        roots = [path for path in folders if encoder in (None, path.name.removeprefix("features_"))]
    else:
        # CLAM's folder `patches` beside these contains only coordinates.
        roots = next(([folder / name] for name in ("h5_files", "pt_files") if (folder / name).is_dir()), [folder])
    files = (path for root in roots for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)
    return sorted(path for path in files if not path.name.startswith("._"))  # macOS puts `._<name>` beside each file


def _plan(found: dict[str, list[Path]], coords: str | Path | None, given: Cutting, result: Import) -> _Plan:
    """Check every file, and record those that fail."""
    from tqdm import tqdm

    planned: _Plan = {}
    for slide_id, files in tqdm(found.items(), desc="checking", unit="slide", disable=None, leave=False):
        for path in files:
            try:
                check_name(path)
                coordinates = _coordinates_of(path, coords)
                held = read_foreign(path, coordinates)
                cutting = complete_cutting(path, held.cutting, given)
                check_placement(path, held.corner, cutting, from_file=held.cutting.level0_px is not None)
                scale = int(cutting.magnification)
                if scale in planned.get(slide_id, {}):
                    other = planned[slide_id][scale].path
                    raise SlideError("duplicate_stem", f"{path}: same slide and magnification as {other}; name one")
                # A slice instead of a new array would keep the features of all slides in memory.
                width = held.features.shape[1]
                looked = ForeignSlide(np.empty((0, width), np.float32), held.corner, cutting, held.encoder)
                planned.setdefault(slide_id, {})[scale] = _Planned(path, coordinates, looked, width)
                _warn(path, held, cutting, given, result)
            except SlideError as error:
                result.failures.append(Failure(in_one_line(path), error.state, str(error)))
    return planned


def _warn(path: Path, held: ForeignSlide, cutting: Cutting, given: Cutting, result: Import) -> None:
    """Add warnings about a file that is imported nevertheless."""
    doubts = [*unused_options(held.cutting, given), *placement_doubts(held.corner, cutting)]
    if zeros := zero_rows(held.features):
        doubts.append(f"{zeros} of {len(held.features)} tiles hold zeros only, as where an extraction failed")
    result.warnings += [f"{path}: {doubt}" for doubt in doubts]


def _coordinates_of(path: Path, coords: str | Path | None) -> Path | None:
    """Find the file of coordinates in the given folder, or where CLAM and TRIDENT put it."""
    folders = [Path(coords)] if coords is not None else [path.parent.parent / n for n in ("patches", "h5_files")]
    names = [f"{path.stem}{ending}" for ending in (".h5", "_patches.h5")]
    return next((folder / name for folder in folders for name in names if (folder / name).is_file()), None)


def _keep_common(planned: _Plan, result: Import) -> None:
    """Leave out files whose feature width or tile size differs from most: a store holds one kind of features."""
    every = [file for files in planned.values() for file in files.values()]
    kinds = [(file.dim, file.slide.cutting.patch_px) for file in every]
    common = max(kinds, key=kinds.count)
    result.tile_px, result.dim = common[1], common[0]
    for files in planned.values():
        for scale, file in list(files.items()):
            kind = (file.dim, file.slide.cutting.patch_px)
            if kind != common:
                del files[scale]
                reason = f"{file.path}: {kind[0]} features of {kind[1]} px tiles, the others have {common[0]} of {common[1]} px"
                result.failures.append(Failure(str(file.path), "other_kind", f"{reason}; import it to another --out"))


def _write(planned: _Plan, scales: list[int], out: str, name: str, result: Import) -> None:
    from tqdm import tqdm

    encoder = {"name": name, "dim": result.dim}
    magnifications = {m: 10.0 / m for m in scales}
    result.magnifications = tuple(scales)
    store = FeatureStore.create(out, encoder, magnifications, result.tile_px) if is_store(out) else None
    for slide_id, files in tqdm(planned.items(), desc="importing", unit="slide", disable=None, leave=False):
        files = {m: files[m] for m in scales if m in files}
        if not files:
            continue
        known = _attributes(files)
        if store and slide_id in store and store.slide_attributes(slide_id).get("imported") == known["imported"]:
            result.passed_over.append(slide_id)
            continue
        bags = {m: _bag(file) for m, file in files.items()}
        if len(files) == 2:
            coarse, fine = (files[m].slide for m in scales)
            bags[scales[1]].parent, worst = parents_of(fine, coarse)
            known["nested_within_um"] = round(worst * fine.cutting.level0_mpp + 0.05, 3)
        elif len(scales) == 2 and scales[1] in files:
            bags[scales[1]].parent = np.full(len(bags[scales[1]].features), -1, np.int32)
        store = store or FeatureStore.create(out, encoder, magnifications, result.tile_px)
        store.write(slide_id, bags, known, durable=True)
        result.written.append(slide_id)


def _attributes(files: dict[int, _Planned]) -> dict[str, Any]:
    """Attributes that record in the store where a slide's features came from."""
    last = files[max(files)]
    cuttings = {m: file.slide.cutting for m, file in files.items()}
    return {
        "source": last.path.name,
        "imported": {
            str(m): [file.path.name, *_hashes(file), c.level0_px, c.level0_mpp]
            for (m, file), c in zip(files.items(), cuttings.values(), strict=True)
        },
        **({} if cuttings[max(files)].in_um else {"mpp": cuttings[max(files)].level0_mpp}),
        "mpp_source": cuttings[max(files)].mpp_source,
        "tile_um": {str(m): c.level0_px * c.level0_mpp for m, c in cuttings.items()},
        "tile_level0_px": {str(m): c.level0_px for m, c in cuttings.items() if not c.in_um},
        "tiles": {str(m): len(file.slide.corner) for m, file in files.items()},
    }


def _hashes(file: _Planned) -> list[str]:
    """Hashes of the features and of the coordinates, since a file of the same size may hold other values."""
    return [fingerprint(path)["source_hash"] for path in (file.path, file.coordinates) if path is not None]


def _bag(file: _Planned) -> SlideFeatures:
    cutting = file.slide.cutting
    centre = (file.slide.corner + cutting.level0_px / 2) * cutting.level0_mpp
    return SlideFeatures(read_foreign(file.path, file.coordinates).features, centre.astype(np.float32))


def _encoder_name(found: dict[str, list[Path]], planned: _Plan) -> str:
    """Return the encoder that the files name, or TRIDENT's folder `features_<name>`.

    Raises:
        InputError: None is named, or several are.
    """
    named = {file.slide.encoder for files in planned.values() for file in files.values()} - {""}
    if len(named) > 1:
        raise InputError(
            f"the files name several encoders ({', '.join(sorted(named))}); import the files of one at a time"
        )
    folders = {path.parent.name for files in found.values() for path in files}
    names = {name.removeprefix("features_") for name in folders if name.startswith("features_")}
    if len(names) == 1 and len(folders) == 1:
        return names.pop()
    if named:
        return named.pop()
    raise InputError("which encoder made these features? say it with --encoder, e.g. --encoder uni_v1")


def _other_encoders(given: str | None, planned: _Plan) -> list[str]:
    """Warn, in at most one line, that the files name other encoders than the given one."""
    named = {file.slide.encoder for files in planned.values() for file in files.values()} - {"", given}
    return [f"--encoder {given} is taken, though files name {', '.join(sorted(named))}"] if given and named else []


def _nothing(failures: list[Failure]) -> str:
    if len(failures) == 1:
        return failures[0].reason
    states = ", ".join(sorted({failure.state for failure in failures}))
    return f"none of the {len(failures)} files can be imported ({states}), e.g. {failures[0].reason}"
