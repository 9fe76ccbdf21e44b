"""Merges adjacent tiles of the same class into regions, as QuPath's annotations."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dmml.slides.geojson.frame import SlideFrame
from dmml.slides.geojson.tile_layer import TileLayer, feature, rounded_number


@dataclass(frozen=True)
class Region:
    """Tiles of one class that are connected by their sides.

    Attributes:
        class_index: Index into `TileLayer.classes`.
        tiles: Rows of its tiles in the layer, in ascending order.
        rings: The outer ring, then holes; each is (n, 2), closed, in cells of the grid.
    """

    class_index: int
    tiles: NDArray[np.int64]
    rings: list[NDArray[np.float64]]


def merged_regions(layer: TileLayer) -> Iterator[Region]:
    """Merge the tiles of a layer class by class; tiles without a class belong to no region.

    Tiles that touch at a corner alone are in different regions.
    """
    import shapely
    from scipy import ndimage

    for class_index in range(len(layer.classes)):
        rows = np.flatnonzero(layer.class_index == class_index)
        if not len(rows):
            continue
        column, line = (layer.cell[rows] - layer.cell[rows].min(axis=0)).T
        raster = np.zeros((line.max() + 1, column.max() + 1), bool)
        raster[line, column] = True
        label = ndimage.label(raster)[0][line, column]
        by_label = rows[np.argsort(label, kind="stable")]
        for tiles in np.split(by_label, np.cumsum(np.bincount(label)[1:])[:-1]):
            x, y = layer.cell[tiles].T
            # Simplifying by nothing removes the corners of tiles from the straight parts of the outline.
            polygon = shapely.simplify(shapely.coverage_union_all(shapely.box(x, y, x + 1, y + 1)), 0)
            for part in shapely.get_parts(polygon):
                rings = [shapely.get_coordinates(ring) for ring in (part.exterior, *part.interiors)]
                yield Region(class_index, tiles, rings)


def region_features(layer: TileLayer, frame: SlideFrame, namespace: uuid.UUID) -> Iterator[str]:
    """Yield each region of a layer as a GeoJSON feature.

    Its measurements are the number of its tiles, their area, and the mean of each measurement of the tiles.

    Args:
        layer: The tiles.
        frame: Image that QuPath shows of their slide.
        namespace: As in `tile_features`.

    Yields:
        JSON on one line.
    """
    for region in merged_regions(layer):
        tile_class = layer.classes[region.class_index]
        column, row = layer.cell[region.tiles[0]].tolist()
        name = f"{layer.magnification}x {tile_class.name} {column},{row}"
        means = {key: rounded_number(float(v[region.tiles].mean())) for key, v in layer.measurements.items()}
        yield feature(
            uuid.uuid5(namespace, f"region {name}"),
            [frame.pixels(ring * layer.tile_um).round(2).tolist() for ring in region.rings],
            objectType="annotation",
            name=name,
            color=list(tile_class.colour),
            classification={"name": layer.class_name(region.class_index)},
            isLocked=True,
            measurements={
                "tiles": len(region.tiles),
                "area mm²": rounded_number(len(region.tiles) * layer.tile_um**2 / 1e6),
                **{f"mean {key}": mean for key, mean in means.items() if mean is not None},
            },
            metadata={"magnification": str(layer.magnification)},
        )
