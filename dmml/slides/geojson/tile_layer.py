"""The tiles of one magnification on one slide, with their colours, classes and measurements, as QuPath's tile objects."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dmml.slides.geojson.frame import SlideFrame

DIGITS = 6
"""Significant digits of a measurement"""
_CORNERS = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)])
"""Corners of a closed square, in sides from its upper left corner"""


@dataclass(frozen=True)
class TileClass:
    """A class of tiles: its name, and its colour (red, green, blue), 0 to 255."""

    name: str
    colour: tuple[int, int, int]


@dataclass(frozen=True)
class TileLayer:
    """N tiles of one magnification on one slide.

    Attributes:
        magnification: Magnification of the tiles.
        tile_um: Side of a tile, µm.
        cell: (N, 2) int, column and row in the grid that begins at the slide's origin.
        colour: (N, 3) uint8.
        classes: Classes of tiles.
        class_index: (N,) int, index into `classes`; −1 = `neutral`.
        neutral: Class of the tiles that belong to no class, and to no region.
        measurements: {name: (N,) float}; a value that is not finite is left out.
        metadata: {name: N texts}.
    """

    magnification: int
    tile_um: float
    cell: NDArray[np.int64]
    colour: NDArray[np.uint8]
    classes: Sequence[TileClass]
    class_index: NDArray[np.int64]
    neutral: str
    measurements: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    metadata: dict[str, Sequence[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.cell)

    def class_name(self, index: int) -> str:
        """Name of a class in QuPath; the magnification stands first, so that one of them can be hidden."""
        return f"{self.magnification}x: {self.neutral if index < 0 else self.classes[index].name}"


def cells_of(position: NDArray[np.float32], tile_um: float) -> NDArray[np.int64]:
    """Return the (N, 2) columns and rows of tiles with these (N, 2) centres in µm, of a grid from the slide's origin."""
    return np.rint(np.asarray(position, np.float64) / tile_um - 0.5).astype(np.int64)


def tile_features(layer: TileLayer, frame: SlideFrame, namespace: uuid.UUID) -> Iterator[str]:
    """Yield each tile as a GeoJSON feature.

    Args:
        layer: The tiles.
        frame: Image that QuPath shows of their slide.
        namespace: Namespace of the ids, so that the same answer gets the same ids again, and another one others.

    Yields:
        JSON on one line.
    """
    magnification = str(layer.magnification)
    rounded = {name: [rounded_number(v) for v in values.tolist()] for name, values in layer.measurements.items()}
    corners = frame.pixels((layer.cell[:, None, :] + _CORNERS) * layer.tile_um).round(2)
    rows = zip(layer.cell.tolist(), corners.tolist(), layer.colour.tolist(), layer.class_index.tolist(), strict=True)
    for index, ((column, row), ring, colour, class_index) in enumerate(rows):
        name = f"{magnification}x {column},{row}"
        yield feature(
            uuid.uuid5(namespace, name),
            [ring],
            objectType="tile",
            name=name,
            color=colour,
            classification={"name": layer.class_name(class_index)},
            isLocked=False,
            measurements={key: values[index] for key, values in rounded.items() if values[index] is not None},
            metadata={"magnification": magnification, **{key: each[index] for key, each in layer.metadata.items()}},
        )


def feature(identity: uuid.UUID, rings: Sequence[object], **properties: object) -> str:
    """Return a polygon as a GeoJSON feature on one line.

    Args:
        identity: Id of the object in QuPath.
        rings: The outer ring, then holes; each is a list of (x, y) whose last point is the first.
        properties: Properties by QuPath's names.
    """
    geometry = {"type": "Polygon", "coordinates": rings}
    content = {"type": "Feature", "id": str(identity), "geometry": geometry, "properties": properties}
    return json.dumps(content, separators=(",", ":"), allow_nan=False)


def rounded_number(value: float) -> float | None:
    """Round a measurement to `DIGITS` significant digits; None if it is not finite."""
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None
