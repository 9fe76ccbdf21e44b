"""Wrong pyramid levels: they are named, and the tiles depend on the finest level alone."""

from pathlib import Path

import numpy as np
import pytest
from drawn_slides import paint_tissue
from pyramids import padded, page, shrunk, slide, write_pages

from dmml.slides.extraction.extract import extract
from dmml.slides.tiling.layout import SlideRequest, lay_out
from dmml.slides.wsi.levels import ratio_of
from dmml.slides.wsi.slide import Slide
from dmml.store import FeatureStore

REQUEST = SlideRequest(Path("s.tif"), (10, 20))
BOXES = ((230, 224, 896, 672), (1200, 300, 300, 470))


@pytest.fixture(scope="module")
def real(request):
    """The real slide of the shared folder, (2967, 2220, 3)."""
    import openslide

    folder = request.getfixturevalue("shared_data")
    with openslide.OpenSlide(folder / "slides" / "cmu_small_region.svs") as handle:
        return np.asarray(handle.read_region((0, 0), 0, handle.dimensions).convert("RGB"))


@pytest.fixture(scope="module")
def drawn():
    return paint_tissue(1792, 1344, BOXES)


def wrong_levels(picture):
    """{what was done: pages after the slide}."""
    height, width = picture.shape[:2]
    quarter = shrunk(picture, 4)
    return {
        "padded to whole tiles": [page(padded(quarter)), page(padded(shrunk(picture, 16)))],
        "padded with black": [page(padded(quarter, value=0))],
        "cropped": [page(quarter[: height // 4 - 90, : width // 4 - 30])],
        "cropped to the same shape": [page(quarter[: height // 8, : width // 8])],
        "rotated by 90°": [page(np.rot90(quarter))],
        "rotated by 180°": [page(quarter[::-1, ::-1])],
        "mirrored": [page(quarter[:, ::-1])],
        "empty": [page(np.full_like(quarter, 255))],
        "another picture": [page(shrunk(picture.transpose(1, 0, 2)[::-1], 1, (width // 4, height // 4)))],
        "an odd fraction": [page(shrunk(picture, 1, (int(width / 2.7), int(height / 2.7))))],
    }


def right_levels(picture):
    height, width = picture.shape[:2]
    return {
        "rounded down": [page(shrunk(picture, 2)), page(shrunk(picture, 4)), page(shrunk(picture, 16))],
        "rounded up": [page(shrunk(picture, 1, (-(-width // 4), -(-height // 4))))],
        "one pixel more": [page(shrunk(picture, 1, (width // 4 + 1, height // 4 + 1)))],
        "every fourth pixel": [page(picture[::4, ::4]), page(picture[::16, ::16])],
        "strongly compressed": [page(shrunk(picture, 4), compressionargs={"level": 20})],
        "in another order": [page(shrunk(picture, 16)), page(shrunk(picture, 2)), page(shrunk(picture, 4))],
    }


def laid(path):
    with Slide(path) as opened:
        layout = lay_out(opened, REQUEST)
        used = {opened._level(mpp)[0] for mpp in (0.5, 1.0, 2.0, 8.0)}
    return {m: tiles.position for m, tiles in layout.tiles.items()}, layout.attributes.get("notes", []), used


def same(a, b):
    return all(np.array_equal(a[m], b[m]) for m in (10, 20))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["drawn", "real", "square"])
def test_tiles_depend_only_on_the_finest_level(name, real, drawn, tmp_path):
    """A square slide's rotated or padded levels have sizes that give nothing away."""
    picture = {"drawn": drawn, "real": real[:1500, :1300], "square": real[:1400, :1400]}[name]
    alone, notes, _ = laid(write_pages(tmp_path / "s.tif", slide(picture)))
    assert notes == []
    for what, levels in wrong_levels(picture).items():
        tiles, notes, used = laid(write_pages(tmp_path / "s.tif", slide(picture), *levels))
        assert same(tiles, alone), what
        assert used == {0}, what
    for what, levels in right_levels(picture).items():
        tiles, notes, used = laid(write_pages(tmp_path / "s.tif", slide(picture), *levels))
        assert same(tiles, alone), what
        assert (notes, len(used) > 1) == ([], True), what


def test_levels_of_large_slides_that_are_wrong_are_not_used_for_tissue(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr("dmml.slides.wsi.slide.SMALL_SLIDE_PX", 0)
    alone, _, _ = laid(write_pages(tmp_path / "s.tif", slide(drawn)))
    for what, levels in wrong_levels(drawn).items():
        tiles, notes, used = laid(write_pages(tmp_path / "s.tif", slide(drawn), *levels))
        assert same(tiles, alone), what
        assert len(notes) == len(levels), what
        assert "is ignored: it" in notes[0]
        assert used == {0}
    good = shrunk(drawn, 8)
    tiles, notes, used = laid(
        write_pages(tmp_path / "s.tif", slide(drawn), page(shrunk(drawn, 2)[:, ::-1]), page(good))
    )
    assert notes == ["level 1 (896 × 672 px) is ignored: it does not show what the slide shows there"]
    assert used == {0, 2}, "the sound one among them is"


def test_a_mirrored_level_of_symmetric_tissue_is_ignored(drawn, tmp_path):
    path = write_pages(tmp_path / "s.tif", slide(drawn), page(shrunk(drawn, 8)[:, ::-1]))
    with Slide(path) as opened:
        assert opened._level(4.0)[0] == 0
        assert opened.notes == ["level 1 (224 × 168 px) is ignored: it does not show what the slide shows there"]


def test_a_wrong_level_does_not_change_the_features(drawn, small_encoder, tmp_path):
    fine = paint_tissue(1792, 1344, BOXES)
    for name, levels in {"alone": [], "mirrored": [page(shrunk(fine, 2)[:, ::-1])]}.items():
        (tmp_path / name).mkdir()
        write_pages(tmp_path / name / "S.tif", slide(fine, mpp=0.25), *levels)
        result = extract([name], f"{name}.zarr", small_encoder)
    note = "level 1 (896 × 672 px) is ignored: it does not show what the slide shows there"
    assert result.notes == {"S": [note]}
    assert FeatureStore("mirrored.zarr").slide_attributes("S")["notes"] == [note]
    assert note in Path("mirrored.qc.html").read_text(encoding="utf-8")
    alone, mirrored = (FeatureStore(f"{name}.zarr").read("S", 20) for name in ("alone", "mirrored"))
    np.testing.assert_array_equal(alone.position, mirrored.position)
    np.testing.assert_array_equal(alone.features, mirrored.features)


@pytest.mark.parametrize(
    ("full", "level", "ratio"),
    [
        ((46000, 32914), (11500, 8228), 4.0),  # CMU-1.svs
        ((46000, 32914), (2875, 2057), 16.0),
        ((78000, 30462), (2437, 951), 32.0),  # CMU-2.svs
        ((109240, 220696), (3412, 6895), 32.0),  # CMU-1.mrxs, of which the edges are trimmed level by level
        ((105813, 93951), (13227, 11744), 8.0),  # OS-1.bif rounds up
        ((3000, 1500), (1000, 500), 3.0),
        ((1792, 1344), (512, 512), None),
        ((1792, 1344), (336, 448), None),
        ((5000, 5000), (1280, 1280), 3.90625),
    ],
)
def test_ratios_of_levels_equal_those_computed_by_hand(full, level, ratio):
    assert ratio_of(full, level) == (None if ratio is None else pytest.approx(ratio))
