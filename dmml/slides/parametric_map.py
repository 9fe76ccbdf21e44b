"""Writes the measurements of tiles as a DICOM parametric map that refers to a DICOM slide."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dmml._version import __version__
from dmml.atomic_files import atomic_write
from dmml.slides.geojson.tile_layer import TileLayer

if TYPE_CHECKING:
    from highdicom.pm import RealWorldValueMapping
    from pydicom import Dataset

_LABEL_LENGTH = 16
"""Characters that DICOM allows in the short label of a measurement"""


def write_parametric_map(path: Path, layer: TileLayer, slide: Path, namespace: uuid.UUID) -> None:
    """Write a layer with one pixel per tile, and one channel per measurement.

    The map lies in the slide's frame of reference. Pixels without a tile are 0: they add nothing to the answer, and get
    no attention. As DICOM demands of an image derived from another, the file repeats the patient and the study of the
    slide.

    Args:
        path: File to write.
        layer: The tiles.
        slide: Any file of the slide's series; the others lie in the same folder.
        namespace: As in `tile_features`.
    """
    import highdicom as hd
    from highdicom.content import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence

    source, names = finest_image(slide), list(layer.measurements)
    pixels = _pixels(layer)
    ends = [float(np.abs(pixels[..., i]).max()) or 1.0 for i in range(len(names))]
    millimetres = layer.tile_um / 1000
    # The library warns about names of patients that DICOM would write in another way, and would print them.
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        result = hd.pm.ParametricMap(
            source_images=[source],
            pixel_array=pixels[None],
            series_instance_uid=hd.UID.from_uuid(str(uuid.uuid5(namespace, "series"))),
            series_number=1,
            sop_instance_uid=hd.UID.from_uuid(str(uuid.uuid5(namespace, f"map {layer.magnification}x"))),
            instance_number=layer.magnification,
            manufacturer="dmml",
            manufacturer_model_name="dmml predict-slide",
            software_versions=__version__,
            device_serial_number="0",
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[
                [_mapping(n, name, end)] for n, (name, end) in enumerate(zip(names, ends, strict=True), 1)
            ],
            voi_lut_transformations=[hd.VOILUTTransformation(window_center=0.0, window_width=2 * ends[0])],
            content_label=f"DMML_{layer.magnification}X",
            content_description=f"Tiles at {layer.magnification}x, for research use only",
            pixel_measures=PixelMeasuresSequence(pixel_spacing=(millimetres, millimetres), slice_thickness=0.0),
            plane_orientation=PlaneOrientationSequence("SLIDE", source.ImageOrientationSlide),
            plane_positions=[
                PlanePositionSequence("SLIDE", _corner(source, millimetres), pixel_matrix_position=(1, 1))
            ],
        )
    with atomic_write(path) as partial:
        result.save_as(partial)


def _mapping(number: int, name: str, end: float) -> RealWorldValueMapping:
    """State the meaning of a channel, whose values lie between −`end` and `end`."""
    from highdicom.pm import RealWorldValueMapping
    from pydicom.sr.codedict import codes

    label = f"{number} {name.rpartition(', ')[2]}"[:_LABEL_LENGTH]
    return RealWorldValueMapping(
        lut_label=label,
        lut_explanation=name,
        unit=codes.UCUM.NoUnits,
        value_range=(-end, end),
        slope=1.0,
        intercept=0.0,
    )


def _pixels(layer: TileLayer) -> NDArray[np.float32]:
    """(rows, columns, M) measurements by the cells of the grid; 0 where there is no tile or no finite value."""
    columns, rows = layer.cell.max(axis=0) + 1
    pixels = np.zeros((rows, columns, len(layer.measurements)), np.float32)
    values = np.stack(list(layer.measurements.values()), axis=1)
    pixels[layer.cell[:, 1], layer.cell[:, 0]] = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    return pixels


def _corner(source: Dataset, millimetres: float) -> Sequence[float]:
    """Position of the map's first pixel on the glass, mm; DICOM counts from the centres of pixels.

    Both images begin at the same corner, but the centre of a pixel of this many mm is farther from it.
    """
    origin = source.TotalPixelMatrixOriginSequence[0]
    first = np.array(
        [float(origin[tag].value) for tag in ("XOffsetInSlideCoordinateSystem", "YOffsetInSlideCoordinateSystem")]
    )
    orientation = np.array(source.ImageOrientationSlide, float).reshape(2, 3)[:, :2]
    spacing = source.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    down, across = (float(value) for value in spacing)
    shift = (millimetres - np.array([across, down])) / 2
    return [*(first + shift @ orientation).tolist(), 0.0]


def finest_image(slide: Path) -> Dataset:
    """Read the header of the largest image of a series.

    Args:
        slide: Any file of the series.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    series = pydicom.dcmread(slide, stop_before_pixels=True).SeriesInstanceUID
    images = []
    for path in slide.parent.iterdir():
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True) if path.is_file() else None
        except (InvalidDicomError, OSError):
            continue
        if header is not None and header.get("SeriesInstanceUID") == series and "VOLUME" in header.ImageType:
            images.append(header)
    return max(images, key=lambda image: int(image.TotalPixelMatrixColumns))
