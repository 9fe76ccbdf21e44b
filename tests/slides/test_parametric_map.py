"""Parametric maps of DICOM slides: values, place on the glass, and the image that they refer to."""

import shutil
import uuid

import numpy as np
import pydicom
import pytest
from dicom_slides import write_dicom
from drawn_slides import paint_tissue
from highdicom.spatial import ImageToReferenceTransformer

from dmml.slides.geojson.tile_layer import TileLayer
from dmml.slides.parametric_map import finest_image, write_parametric_map
from dmml.slides.tiling.grid import DEFAULT_TILE_PX, tile_um
from dmml.slides.tiling.layout import SlideRequest, lay_out
from dmml.slides.wsi.slide import Slide

NAMESPACE = uuid.UUID(int=3)


@pytest.fixture
def dicom(tmp_path, shared_data):
    """A slide whose tissue reaches its far corner."""
    picture = paint_tissue(2016, 1568, ((300, 300, 900, 700), (1300, 900, 716, 668)))
    (tmp_path / "scan").mkdir()
    header = shared_data / "slides" / "openslide_fixtures" / "boxes_0.dcm"
    return write_dicom(tmp_path / "scan" / "slide.dcm", picture, header)


def layer_of(path, magnification):
    with Slide(path) as slide:
        tiles = lay_out(slide, SlideRequest(path, (10, 20))).tiles[magnification]
    n = len(tiles)
    values = {"contribution, all parts": np.linspace(-2, 3, n), "attention, tumor": np.full(n, 0.5)}
    values["attention, tumor"][0] = np.nan
    return TileLayer(
        magnification,
        tile_um(magnification, DEFAULT_TILE_PX),
        tiles.cell,
        np.zeros((n, 3), np.uint8),
        [],
        np.full(n, -1),
        "",
        values,
    )


@pytest.mark.parametrize("magnification", [10, 20])
def test_every_tile_is_a_pixel_with_its_measurements(dicom, tmp_path, magnification):
    layer = layer_of(dicom, magnification)
    write_parametric_map(tmp_path / "map.dcm", layer, dicom, NAMESPACE)
    data = pydicom.dcmread(tmp_path / "map.dcm")
    pixels = np.frombuffer(data.FloatPixelData, np.float32).reshape(-1, data.Rows, data.Columns)
    assert len(pixels) == data.NumberOfFrames == 2
    contributions = layer.measurements["contribution, all parts"]
    for (column, row), value in zip(layer.cell.tolist(), contributions, strict=True):
        assert pixels[0, row, column] == np.float32(value)
    assert pixels[0].sum() == pytest.approx(contributions.sum(), abs=1e-4)  # what was not read adds nothing
    assert (pixels[1] == 0.5).sum() == len(layer) - 1  # a value that is no number is 0
    meanings = [
        frame.RealWorldValueMappingSequence[0].LUTExplanation for frame in data.PerFrameFunctionalGroupsSequence
    ]
    assert meanings == list(layer.measurements)


def test_tiles_and_map_agree_to_a_pixel_in_the_far_corner(dicom, tmp_path):
    layer, source = layer_of(dicom, 20), pydicom.dcmread(dicom)
    write_parametric_map(tmp_path / "map.dcm", layer, dicom, NAMESPACE)
    data = pydicom.dcmread(tmp_path / "map.dcm")
    assert data.FrameOfReferenceUID == source.FrameOfReferenceUID
    of_slide, of_map = (
        ImageToReferenceTransformer.for_image(image, for_total_pixel_matrix=True) for image in (source, data)
    )
    cell = layer.cell[layer.cell.sum(axis=1).argmax()]
    assert (np.array([2016, 1568]) - (cell + 1) * 224 < 224).all()
    for corner in (cell, cell + 1):  # its upper left and its lower right corner
        on_map, on_slide = of_map(corner[None].astype(float)), of_slide(corner[None] * 224.0)
        assert np.abs(on_map - on_slide).max() < 1e-6  # mm; a pixel of the slide has 0.0005


def test_the_patient_s_name_is_not_printed(dicom, tmp_path, recwarn):
    data = pydicom.dcmread(dicom)
    data.PatientName = "JANE"  # a single component, of which highdicom warns
    data.save_as(dicom)
    write_parametric_map(tmp_path / "map.dcm", layer_of(dicom, 10), dicom, NAMESPACE)
    assert [str(each.message) for each in recwarn if "JANE" in str(each.message)] == []


def test_the_map_belongs_to_the_study_and_refers_to_the_finest_image(dicom, tmp_path):
    coarse = pydicom.dcmread(dicom)
    coarse.SOPInstanceUID = coarse.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    coarse.TotalPixelMatrixColumns = coarse.TotalPixelMatrixRows = 16
    coarse.save_as(dicom.with_name("coarse.dcm"))
    shutil.copy(dicom.parents[0] / "coarse.dcm", dicom.with_name("a.txt"))
    dicom.with_name("notes.txt").write_text("no DICOM")
    fine = pydicom.dcmread(dicom)
    assert finest_image(dicom.with_name("coarse.dcm")).SOPInstanceUID == fine.SOPInstanceUID
    write_parametric_map(tmp_path / "map.dcm", layer_of(dicom, 10), dicom, NAMESPACE)
    data = pydicom.dcmread(tmp_path / "map.dcm")
    assert data.StudyInstanceUID == fine.StudyInstanceUID
    assert data.SeriesInstanceUID != fine.SeriesInstanceUID
    assert data.PatientName == "DOE^JANE"  # as DICOM demands
    assert fine.SOPInstanceUID in (tmp_path / "map.dcm").read_bytes().decode("latin-1")
