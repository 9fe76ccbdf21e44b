"""Reads the areas that a user drew in QuPath, from any of the forms of GeoJSON that QuPath exports."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmml.errors import InputError, reason_of

if TYPE_CHECKING:
    from shapely import Geometry

_ANNOTATION = ("annotation", "PathAnnotationObject", None)
"""Values of a feature's `objectType` that mark an annotation; QuPath takes a feature without a type for one, too"""
_AREAS = ("Polygon", "MultiPolygon")
_HINT = "in QuPath, draw areas and export them with File > Export objects as GeoJSON"


def read_areas(path: str | Path) -> Geometry:
    """Read all annotations with an area, as their union.

    Tiles, detections and cells are no annotations and are ignored, as are lines and points.

    Args:
        path: A FeatureCollection, a list of features, a single feature, or a geometry.

    Returns:
        A polygon or several, in pixels of the image that QuPath shows.

    Raises:
        InputError: The file is missing or not GeoJSON, a polygon is malformed, or there is no annotation with an area.
    """
    import shapely
    from shapely.geometry import shape

    areas, others = [], Counter[str]()
    for number, (kind, geometry) in enumerate(_geometries(_parsed(path), path), 1):
        if kind not in _ANNOTATION or geometry.get("type") not in _AREAS:
            others[str(kind if kind not in _ANNOTATION else geometry.get("type")).lower()] += 1
            continue
        try:
            # A line drawn by hand may cross itself.
            area = shapely.make_valid(shape(geometry), method="structure", keep_collapsed=False)
        except Exception as error:  # shapely raises exceptions of many types
            raise InputError(f"{path}: shape {number} is no polygon ({reason_of(error)}); {_HINT}") from error
        if not 0 < area.area < math.inf:
            raise InputError(f"{path}: shape {number} is a polygon without an area; {_HINT}")
        areas.append(area)
    if not areas:
        rest = ", ".join(f"{n} of type {name}" for name, n in others.most_common())
        raise InputError(f"{path}: holds no annotation with an area ({rest or 'it is empty'}); {_HINT}")
    return shapely.union_all(areas)


def _parsed(path: str | Path) -> object:
    try:
        return json.loads(Path(path).read_bytes(), parse_constant=_reject_constant)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not GeoJSON ({reason_of(error)}); {_HINT}") from error


def _reject_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _geometries(content: object, path: str | Path) -> Iterator[tuple[str | None, Mapping[str, Any]]]:
    """Yield the object type and the geometry of every shape in a file.

    Raises:
        InputError: Something is neither a feature nor a geometry.
    """
    if isinstance(content, list):
        for part in content:
            yield from _geometries(part, path)
    elif not isinstance(content, Mapping) or not isinstance(content.get("type"), str):
        raise InputError(f"{path}: is JSON, but not GeoJSON; {_HINT}")
    elif content["type"] == "FeatureCollection":
        yield from _geometries(content.get("features") or [], path)
    elif content["type"] == "Feature":
        if not isinstance(geometry := content.get("geometry"), Mapping):
            raise InputError(f"{path}: holds a feature without a geometry; {_HINT}")
        properties = content.get("properties")
        kind = properties.get("objectType") if isinstance(properties, Mapping) else None
        yield from ((kind, part) for part in _parts(geometry))
    else:
        yield from ((None, part) for part in _parts(content))


def _parts(geometry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the geometries of a collection, or a geometry itself."""
    if geometry.get("type") != "GeometryCollection":
        return [geometry]
    return [part for part in geometry.get("geometries") or [] if isinstance(part, Mapping)]
