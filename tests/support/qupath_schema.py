"""The GeoJSON that QuPath reads into objects with all their properties, as a JSON schema, and the drawing of annotations."""

import json

_NUMBER = {"type": "number"}
_UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
_RING = {
    "type": "array",
    "minItems": 4,
    "items": {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2},
}
_PROPERTIES = {
    "objectType": {"enum": ["tile", "annotation"]},
    "name": {"type": "string"},
    "color": {
        "type": "array",
        "items": {"type": "integer", "minimum": 0, "maximum": 255},
        "minItems": 3,
        "maxItems": 3,
    },
    "classification": {
        "type": "object",
        "properties": {"name": {"type": "string", "minLength": 1}},
        "required": ["name"],
        "additionalProperties": False,
    },
    "isLocked": {"type": "boolean"},
    "measurements": {"type": "object", "additionalProperties": _NUMBER},
    "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
}
_FEATURE = {
    "type": "object",
    "properties": {
        "type": {"const": "Feature"},
        "id": {"type": "string", "pattern": _UUID},
        "geometry": {
            "type": "object",
            "properties": {
                "type": {"const": "Polygon"},
                "coordinates": {"type": "array", "minItems": 1, "items": _RING},
            },
            "required": ["type", "coordinates"],
            "additionalProperties": False,
        },
        "properties": {
            "type": "object",
            "properties": _PROPERTIES,
            "required": list(_PROPERTIES),
            "additionalProperties": False,
        },
    },
    "required": ["type", "id", "geometry", "properties"],
    "additionalProperties": False,
}
SCHEMA = {
    "type": "object",
    "properties": {"type": {"const": "FeatureCollection"}, "features": {"type": "array", "items": _FEATURE}},
    "required": ["type", "features"],
    "additionalProperties": False,
}


def checked_features(text):
    """The features of a file, which must fit the schema: unique ids, closed polygons, and numbers that JSON has."""
    import jsonschema

    content = json.loads(text, parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)))
    jsonschema.validate(content, SCHEMA)
    features = content["features"]
    assert len({each["id"] for each in features}) == len(features)
    assert all(ring[0] == ring[-1] for each in features for ring in each["geometry"]["coordinates"])
    return features


def square(left, top, right, bottom):
    """A closed ring."""
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


def annotation(*rings, kind="annotation"):
    """A polygon with holes as QuPath exports what a user drew."""
    geometry = {"type": "Polygon", "coordinates": list(rings)}
    return {"type": "Feature", "id": "x", "geometry": geometry, "properties": {"objectType": kind}}


def write_annotations(path, *features):
    """Write features as QuPath does by default."""
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(features)}))
    return path
