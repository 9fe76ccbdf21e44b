"""Reads the answers of `dmml predict-slide`: `prediction.json` and the tiles that it wrote for QuPath."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from dmml.errors import InputError, reason_of
from dmml.evaluation.result_folders import read_json
from dmml.experiment.predict_slide.input import PREDICTION, thumbnail_name
from dmml.slides.geojson.frame import SlideFrame
from dmml.slides.geojson.tile_layer import TileClass
from dmml.viewer.slide_files import SlideFiles, named_in_command, same_file
from dmml.viewer.tile_set import TileSet, measurement
from dmml.viewer.viewed_slide import Picture, ViewedSlide

_AGAIN = "run `dmml predict-slide` again with --overwrite"


def answer_folders(path: Path) -> list[Path]:
    """Return the folders of answers: the path itself, or its subfolders; empty if there is none."""
    if (path / PREDICTION).is_file():
        return [path]
    return sorted(file.parent for file in path.glob(f"*/{PREDICTION}") if not file.parent.name.startswith("."))


def slides_of_answer(folder: Path, files: SlideFiles | None) -> list[ViewedSlide]:
    """Return the slides of an answer.

    Args:
        folder: Folder of the answer.
        files: Slides that the user named; None = do not look for the slides' files.

    Raises:
        InputError: The answer is damaged or has no tiles, or a file is not the slide that was read.
    """
    record = read_json(folder / PREDICTION, _AGAIN)
    try:
        answer = _AnswerTiles(folder, record["slides"])
        lines, use = record["answer"], record["use"]
        group = record["patient"] if len(record["slides"]) > 1 else ""
        command = record["command"]
    except KeyError as error:
        raise InputError(f"{folder / PREDICTION}: has no {error.args[0]!r}; {_AGAIN}") from error
    answer.check()
    slides = []
    for index, slide in enumerate(record["slides"]):
        name = slide["slide_id"]
        slides.append(
            ViewedSlide(
                name,
                group,
                lines,
                use,
                slide,
                None if files is None else _file_of(slide, files, command),
                partial(answer.of_slide, index),
                partial(_thumbnail, folder / thumbnail_name(name, len(record["slides"])), slide),
                record.get("limits", {}).get("warnings", ()),
            )
        )
    return slides


def _file_of(slide: Mapping[str, Any], files: SlideFiles, command: str) -> Path | None:
    name = slide["slide_id"]
    return files.find(name, slide) or same_file(named_in_command(command, slide.get("source", "")), name, slide)


def _thumbnail(path: Path, slide: Mapping[str, Any]) -> Picture | None:
    from PIL import Image

    if not path.is_file():
        return None
    with Image.open(path) as image:
        return Picture(np.asarray(image.convert("RGB")), slide["thumbnail_mpp"])


@dataclass(frozen=True)
class _Tile:
    """One tile as it stands in the file; `corner` is in pixels of the image that QuPath shows."""

    magnification: int
    corner: tuple[float, float]
    cell: tuple[int, int]
    colour: tuple[int, int, int]
    category: str
    measurements: Mapping[str, float]


class _AnswerTiles:
    """The tiles of all slides of an answer, which share their colour scales."""

    def __init__(self, folder: Path, slides: list[dict[str, Any]]):
        self._folder, self._slides = folder, slides

    def check(self) -> None:
        """Refuse an answer without tiles, before the page is opened."""
        for slide in self._slides:
            self._path(slide)

    def of_slide(self, index: int) -> list[TileSet]:
        """Read the tiles of a slide."""
        return self._tile_sets[index]

    @cached_property
    def _tile_sets(self) -> list[list[TileSet]]:
        """The tiles of each slide, the coarsest magnification first."""
        tiles = [list(_read_tiles(self._path(slide))) for slide in self._slides]
        scales: dict[tuple[int, str], list[float]] = {}
        for tile in (tile for of_slide in tiles for tile in of_slide):
            for name, value in tile.measurements.items():
                scales.setdefault((tile.magnification, name), []).append(value)
        return [_tile_sets(each, slide, scales) for each, slide in zip(tiles, self._slides, strict=True)]

    def _path(self, slide: Mapping[str, Any]) -> Path:
        suffix = f"_{slide['slide_id']}" if len(self._slides) > 1 else ""
        plain = self._folder / f"tiles{suffix}.geojson"
        for path in (plain, plain.with_name(f"{plain.name}.zip")):
            if path.is_file():
                return path
        raise InputError(f"{plain}: does not exist, and the viewer reads the tiles from it; {_AGAIN}")


def _tile_sets(
    tiles: list[_Tile], slide: Mapping[str, Any], scales: Mapping[tuple[int, str], list[float]]
) -> list[TileSet]:
    sets = []
    for m in sorted({tile.magnification for tile in tiles}):
        of_scale = [tile for tile in tiles if tile.magnification == m]
        frame, tile_um = SlideFrame.of(slide), slide["tile_um"][str(m)]
        corner = frame.micrometres(np.array([tile.corner for tile in of_scale]))
        measurements = []
        for name in dict.fromkeys(name for tile in of_scale for name in tile.measurements):
            values = np.array([tile.measurements.get(name, np.nan) for tile in of_scale])
            measurements.append(measurement(name, values, np.array(scales[m, name])))
        classes, index = _classes(of_scale)
        cell = np.array([tile.cell for tile in of_scale])
        sets.append(TileSet(m, tile_um, corner, cell, measurements, classes, index))
    return sets


def _classes(tiles: list[_Tile]) -> tuple[list[TileClass], np.ndarray]:
    """Return the classes, each in the median colour of its tiles, and the class of each tile."""
    names = sorted({tile.category for tile in tiles})
    index = np.array([names.index(tile.category) for tile in tiles])
    colours = np.array([tile.colour for tile in tiles])
    classes = []
    for i, name in enumerate(names):
        red, green, blue = np.median(colours[index == i], axis=0).astype(int).tolist()
        classes.append(TileClass(name, (red, green, blue)))
    return classes, index


def _read_tiles(path: Path) -> Iterator[_Tile]:
    """Yield the tiles of a file, line by line: a slide may have hundreds of thousands.

    Raises:
        InputError: The file cannot be read, or was not written by dmml.
    """
    try:
        with _text_of(path) as lines:
            for line in lines:
                if line.startswith('{"type":"Feature",'):
                    yield _tile(json.loads(line.rstrip().rstrip(",")))
    except (OSError, ValueError, KeyError, TypeError, IndexError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read as tiles of dmml ({reason_of(error)}); {_AGAIN}") from error


def _text_of(path: Path) -> io.TextIOBase:
    if path.suffix != ".zip":
        return path.open(encoding="utf-8")
    return io.TextIOWrapper(zipfile.ZipFile(path).open(path.name.removesuffix(".zip")), encoding="utf-8")


def _tile(feature: Mapping[str, Any]) -> _Tile:
    properties, ring = feature["properties"], feature["geometry"]["coordinates"][0]
    scale, cell = properties["name"].split(" ")
    column, row = map(int, cell.split(","))
    red, green, blue = properties["color"]
    category = properties["classification"]["name"].removeprefix(f"{scale}: ")
    corner = (min(x for x, _ in ring), min(y for _, y in ring))
    magnification = int(properties["metadata"]["magnification"])
    return _Tile(magnification, corner, (column, row), (red, green, blue), category, properties["measurements"])
