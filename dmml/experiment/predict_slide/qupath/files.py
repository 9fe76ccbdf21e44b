"""Writes the files of an answer that QuPath opens: tiles always, regions and overlays if wanted."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from dmml.experiment.predict_slide.qupath.options import DICOM, QuPathFiles
from dmml.slides.discovery.find import OVERLAY_SUFFIXES
from dmml.slides.geojson.frame import SlideFrame
from dmml.slides.geojson.regions import region_features
from dmml.slides.geojson.tile_layer import TileLayer, tile_features
from dmml.slides.geojson.writing import write_features

_NAMESPACE = uuid.UUID("2f2b8c8e-0c1d-5a43-9f0f-5d2c3c1a7b60")
"""Namespace of all ids of dmml's shapes"""


def write_qupath_files(
    folder: Path,
    slides: Sequence[Path],
    record: Mapping[str, Any],
    layers_of_slides: Mapping[int, Sequence[TileLayer]],
    wanted: QuPathFiles,
) -> None:
    """Write `tiles.geojson` and what else is wanted; if there are several slides, one file for each, named after it.

    GeoJSON and OME-TIFF hold positions, numbers and classes alone. Nothing of the slide's metadata goes into them: it may
    hold the patient's name, dates and paths.

    Args:
        folder: Folder of the answer.
        slides: Paths of the slides, in the order of `Bag.slide`.
        record: Content of `prediction.json`.
        layers_of_slides: As returned by `tile_layers`.
        wanted: Which files to write.
    """
    for index, layers in layers_of_slides.items():
        slide = record["slides"][index]
        suffix = f"_{slide['slide_id']}" if len(record["slides"]) > 1 else ""
        frame = SlideFrame.of(slide)
        namespace = uuid.uuid5(_NAMESPACE, f"{slide['source_hash']} {record['model']['sha256']}")
        features = (tile_features(layer, frame, namespace) for layer in layers)
        write_features(folder / f"tiles{suffix}.geojson", chain.from_iterable(features), sum(map(len, layers)))
        if wanted.regions:
            regions = [feature for layer in layers for feature in region_features(layer, frame, namespace)]
            write_features(folder / f"regions{suffix}.geojson", regions, len(regions))
        if wanted.overlay:
            for layer in layers:
                stem = folder / f"heatmap{suffix}_{layer.magnification}x"
                _write_overlay(stem, wanted.overlay, layer, frame, slides[index], namespace)


def _write_overlay(
    stem: Path, overlay: str, layer: TileLayer, frame: SlideFrame, slide: Path, namespace: uuid.UUID
) -> None:
    if overlay == DICOM:
        from dmml.slides.parametric_map import write_parametric_map

        write_parametric_map(stem.with_name(f"{stem.name}.dcm"), layer, slide, namespace)
    else:
        from dmml.slides.ome_tiff import write_ome_tiff

        write_ome_tiff(stem.with_name(f"{stem.name}{OVERLAY_SUFFIXES[0]}"), layer, frame, namespace)
