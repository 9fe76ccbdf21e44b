"""Imports features of other tools into a store: nested magnifications if the coordinates allow, otherwise only one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dmml.errors import InputError
from dmml.progress_bars import progress_bar
from dmml.slides.companion_files import FAILURES, companion_path, companion_prefix
from dmml.slides.discovery.file_names import in_one_line
from dmml.slides.encoders.recipes import pretraining_warning
from dmml.slides.failures import Failure, record_failures
from dmml.slides.importing.check_files import (
    CheckedFile,
    SlideFiles,
    check_files,
    encoder_of,
    encoders_named_in,
    keep_most_common_kind,
)
from dmml.slides.importing.find_files import find_files
from dmml.slides.importing.nesting import nesting_problem, parents_of
from dmml.slides.importing.read_features import read_features
from dmml.slides.importing.tile_spec import TileSpec
from dmml.slides.wsi.file_identity import fingerprint
from dmml.slides.wsi.mpp import check_mpp
from dmml.store import FeatureStore, SlideFeatures, is_store


@dataclass
class FeatureImportResult:
    """The outcome of an import."""

    written: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    """Slides that the store already held, from the same files"""
    failures: list[Failure] = field(default_factory=list)
    failures_file: str = ""
    magnifications: tuple[int, ...] = ()
    tile_px: int = 0
    dim: int = 0
    not_nested: str = ""
    """Why only one of two magnifications was imported; empty if both were"""
    warnings: list[str] = field(default_factory=list)
    """Warnings: the encoder was pre-trained on the slides' collection, tiles contain only zeros or lie oddly"""


def import_features(
    inputs: Sequence[str | Path],
    out: str | Path,
    encoder: str | None = None,
    coords: str | Path | None = None,
    magnification: int | None = None,
    patch_px: int | None = None,
    level0_px: float | None = None,
    mpp: float | None = None,
) -> FeatureImportResult:
    """Write the features of other tools into a store.

    Args:
        inputs: Files (`.h5`, `.pt`, slide2vec's `.npz`), folders of them, a TRIDENT job folder, or a slide2vec run's.
        out: Store to create or to add to.
        encoder: Name of the encoder; if None, it is taken from TRIDENT's folder `features_<name>` or from the files.
        coords: Folder of files with coordinates, for feature files that contain none.
        magnification: 10 / (µm per pixel of a tile), used if the files do not state it.
        patch_px: Side of a tile in pixels of its magnification, used if the files do not state it.
        level0_px: Side of a tile in pixels of the finest level, used if the files do not state it. Files whose tiles
            are closer together are refused.
        mpp: µm per pixel of the finest level; takes precedence over the files, unless their coordinates are in µm.

    Raises:
        InputError: Nothing can be imported, or the store was made with another encoder, magnification or tile size.
    """
    if mpp is not None:
        check_mpp(mpp)
    paths = find_files(inputs, encoder)
    user_spec = TileSpec(magnification, patch_px, level0_px, mpp, "--mpp" if mpp else "")
    out = str(out).removeprefix("file://")
    result = FeatureImportResult(failures_file=companion_path(out, companion_prefix(out) + FAILURES))
    files = check_files(paths, coords, user_spec, result.failures, result.warnings)
    if not files:
        raise InputError(_nothing_imported(result.failures))
    encoder_name = encoder or encoder_of(paths, files)
    result.warnings[:0] = [
        *_other_encoders(encoder, files),
        *filter(None, [pretraining_warning(encoder_name, files)]),
    ]
    scales = _scales_to_import(files, result)
    result.dim, result.tile_px = keep_most_common_kind(files, result.failures)
    _write_slides(files, scales, out, encoder_name, result)
    examined = [in_one_line(path) for of_slide in paths.values() for path in of_slide]
    record_failures(result.failures_file, result.failures, examined)
    if not (result.written or result.skipped):
        raise InputError(_nothing_imported(result.failures))
    return result


def _scales_to_import(files: SlideFiles, result: FeatureImportResult) -> list[int]:
    """Return the magnification, or the coarse and the fine one if all tiles of the fine one lie in those of the other."""
    scales = sorted({scale for by_scale in files.values() for scale in by_scale})
    if len(scales) > 2:
        raise InputError(f"{len(scales)} magnifications found ({scales}); name the folders of two, or of one")
    if len(scales) == 2:
        coarse, fine = scales
        pairs = {slide: (its[coarse], its[fine]) for slide, its in files.items() if set(its) == set(scales)}
        result.not_nested = nesting_problem(pairs, scales)
        if result.not_nested:
            scales = [fine]
    result.magnifications = tuple(scales)
    return scales


def _write_slides(
    files: SlideFiles, scales: list[int], out: str, encoder_name: str, result: FeatureImportResult
) -> None:
    encoder = {"name": encoder_name, "dim": result.dim}
    magnifications = {m: 10.0 / m for m in scales}
    store = FeatureStore.create(out, encoder, magnifications, result.tile_px) if is_store(out) else None
    for slide_id, of_slide in progress_bar(files.items(), "importing"):
        by_scale = {m: of_slide[m] for m in scales if m in of_slide}
        if not by_scale:
            continue
        attributes = _slide_attributes(by_scale)
        if store and slide_id in store and store.slide_attributes(slide_id).get("imported") == attributes["imported"]:
            result.skipped.append(slide_id)
            continue
        bags = {m: _read_bag(file) for m, file in by_scale.items()}
        if len(by_scale) == 2:
            coarse, fine = (by_scale[m] for m in scales)
            bags[scales[1]].parent, worst = parents_of(fine, coarse)
            attributes["nested_within_um"] = round(worst * fine.spec.level0_mpp + 0.05, 3)
        elif len(scales) == 2 and scales[1] in by_scale:
            bags[scales[1]].parent = np.full(len(bags[scales[1]].features), -1, np.int32)
        store = store or FeatureStore.create(out, encoder, magnifications, result.tile_px)
        store.write(slide_id, bags, attributes, durable=True)
        result.written.append(slide_id)


def _slide_attributes(by_scale: dict[int, CheckedFile]) -> dict[str, Any]:
    """Attributes that record in the store where a slide's features came from."""
    finest = by_scale[max(by_scale)]
    specs = {m: file.spec for m, file in by_scale.items()}
    return {
        "source": finest.path.name,
        "imported": {
            str(m): [file.path.name, *_hashes(file), file.spec.level0_px, file.spec.level0_mpp]
            for m, file in by_scale.items()
        },
        **({} if finest.spec.in_um else {"mpp": finest.spec.level0_mpp}),
        "mpp_source": finest.spec.mpp_source,
        "tile_um": {str(m): spec.level0_px * spec.level0_mpp for m, spec in specs.items()},
        "tile_level0_px": {str(m): spec.level0_px for m, spec in specs.items() if not spec.in_um},
        "tiles": {str(m): len(file.corner) for m, file in by_scale.items()},
    }


def _hashes(file: CheckedFile) -> list[str]:
    """Hashes of the features and of the coordinates, since a file of the same size may hold other values."""
    return [fingerprint(path)["source_hash"] for path in (file.path, file.coordinates) if path is not None]


def _read_bag(file: CheckedFile) -> SlideFeatures:
    centre = (file.corner + file.spec.level0_px / 2) * file.spec.level0_mpp
    return SlideFeatures(read_features(file.path, file.coordinates).features, centre.astype(np.float32))


def _other_encoders(encoder: str | None, files: SlideFiles) -> list[str]:
    """Warn, in at most one line, that the files name other encoders than the user does."""
    others = encoders_named_in(files) - {encoder}
    if not encoder or not others:
        return []
    return [f"--encoder {encoder} is used, although files name {', '.join(sorted(others))}"]


def _nothing_imported(failures: list[Failure]) -> str:
    if len(failures) == 1:
        return failures[0].reason
    states = ", ".join(sorted({failure.state for failure in failures}))
    return f"none of the {len(failures)} files can be imported ({states}), e.g. {failures[0].reason}"
