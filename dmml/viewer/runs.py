"""Reads the maps of example patients that `dmml test` writes: attention and contributions of the tiles of their slides."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmml.errors import InputError, reason_of
from dmml.evaluation.result_folders import find_tests
from dmml.viewer.slide_files import SlideFiles
from dmml.viewer.tile_set import TileSet, measurement, plain_tiles
from dmml.viewer.viewed_slide import Picture, ViewedSlide

_MAPS = "attention.npz"
_NAMES = {"tumor": "attention, tumor", "tme": "attention, TME"}
_TOTAL = "contribution, all parts"


def slides_of_run(path: Path, files: SlideFiles | None) -> list[ViewedSlide]:
    """Return the slides of the example patients of all tests of a run, or of one test.

    Args:
        path: Folder of the run, or of one of its tests.
        files: Slides that the user named; None = do not look for the slides' files.

    Raises:
        InputError: There is no finished test, or none with maps of tiles.
    """
    slides = []
    tests = [each.folder for each in find_tests([path])]
    for folder in tests:
        if (folder / _MAPS).is_file():
            cohort = f"{folder.name}, " if len(tests) > 1 else ""
            slides += _slides_of_test(_read(folder / _MAPS), cohort, files)
    if not slides:
        raise InputError(
            f"{path}: its tests hold no maps of tiles, as with vectors of whole slides; view an answer of `dmml predict-slide`"
        )
    return slides


def _read(path: Path) -> dict[str, NDArray]:
    try:
        with np.load(path) as arrays:
            return dict(arrays)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read ({reason_of(error)}); run `dmml test` again") from error


def _slides_of_test(arrays: Mapping[str, NDArray], cohort: str, files: SlideFiles | None) -> list[ViewedSlide]:
    meta: list[dict[str, Any]] = json.loads(str(arrays.get("meta", "[]")))
    totals = _tiles_of_patients(arrays, meta)
    slides = []
    for index, slide in enumerate(meta):
        name = slide["slide_id"]
        lines = [text for text in (slide.get("verdict"),) if text]
        slides.append(
            ViewedSlide(
                name,
                f"{cohort}{slide['patient_id']}",
                [f"Prediction {line}" for line in lines],
                "",
                slide.get("file") or {},
                None if files is None else files.find(name, slide.get("file") or {}),
                partial(_tile_sets, arrays, index, slide, totals),
                partial(_thumbnail, arrays, index, slide),
            )
        )
    return slides


def _scales(arrays: Mapping[str, NDArray], index: int) -> list[int]:
    """Magnifications at which a slide has tiles."""
    prefix = f"position_{index}_"
    return sorted(int(name.removeprefix(prefix)) for name in arrays if name.startswith(prefix))


def _tiles_of_patients(arrays: Mapping[str, NDArray], meta: list[dict[str, Any]]) -> dict[tuple[str, int], int]:
    """{(patient, magnification): number of tiles on all slides}, by which attention is shown."""
    totals: dict[tuple[str, int], int] = {}
    for index, slide in enumerate(meta):
        for m in _scales(arrays, index):
            key = (slide["patient_id"], m)
            totals[key] = totals.get(key, 0) + len(arrays[f"position_{index}_{m}"])
    return totals


def _tile_sets(
    arrays: Mapping[str, NDArray], index: int, slide: Mapping[str, Any], totals: Mapping[tuple[str, int], int]
) -> list[TileSet]:
    sets = []
    for m in _scales(arrays, index):
        tiles = plain_tiles(m, float(slide["tile_um"][str(m)]), arrays[f"position_{index}_{m}"])
        measurements = []
        if (values := arrays.get(f"contribution_{index}_{m}")) is not None:
            measurements.append(measurement(_TOTAL, values))
        for subspace, name in _NAMES.items():
            # Without a share in the prediction, attention has not been trained.
            if slide.get("deep_share", 1) and (share := arrays.get(f"attention_{index}_{m}_{subspace}")) is not None:
                measurements.append(measurement(name, share * totals[slide["patient_id"], m]))
        sets.append(TileSet(m, tiles.tile_um, tiles.corner, tiles.cell, measurements, (), tiles.class_index))
    return sets


def _thumbnail(arrays: Mapping[str, NDArray], index: int, slide: Mapping[str, Any]) -> Picture | None:
    pixels = arrays.get(f"thumbnail_{index}")
    if pixels is None or not slide.get("thumbnail_mpp"):
        return None
    return Picture(np.ascontiguousarray(pixels[..., :3]), float(slide["thumbnail_mpp"]))
