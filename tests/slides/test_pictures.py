"""Heat maps and the QC page: colours at the positions of the tiles, a self-contained page."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from dmml.errors import InputError
from dmml.slides.failures import Failure
from dmml.slides.overlay import overlay, overlay_groups
from dmml.slides.qc.page import write_qc
from dmml.slides.qc.pictures import outlined
from dmml.store import FeatureStore, SlideFeatures

GLASS = np.full((300, 400, 3), 235, np.uint8)
CENTRES = np.array([[56.0 + 112 * x, 56.0 + 112 * y] for y in (1, 2) for x in (1, 2, 3)], np.float32)


def colourfulness(pixels):
    return pixels.max(axis=-1).astype(int) - pixels.min(axis=-1)


def test_the_heat_map_colours_the_tiles():
    picture = np.asarray(overlay(GLASS, 2.0, CENTRES, np.arange(6.0), 112.0))
    assert picture.shape[1] == 800  # below 512 px a thumbnail is enlarged
    scale = 1.0  # µm per pixel after that
    for x, y in CENTRES:
        assert colourfulness(picture[round(float(y) / scale), round(float(x) / scale)]) > 30
    assert colourfulness(picture[:100]).max() == 0
    assert colourfulness(picture[113:333, :110]).max() == 0


def test_higher_is_brighter_and_limits_are_kept():
    weight = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 100.0])
    picture = np.asarray(overlay(GLASS, 1.0, CENTRES, weight, 112.0, limits=(0.0, 4.0)).convert("L"), float)
    frame = (picture.shape[1] - 800) // 2
    level = [picture[round(float(y)) * 2, frame + round(float(x)) * 2] for x, y in CENTRES]
    assert level == sorted(level)
    assert level[4] == level[5]


def test_tissue_stays_visible_under_the_colours():
    striped = GLASS.copy()
    striped[:, ::4] = 90
    picture = np.asarray(overlay(striped, 1.0, CENTRES, np.arange(6.0), 112.0).convert("L"), float)
    assert np.abs(np.diff(picture[2 * 168, 2 * 130 : 2 * 200])).max() > 15


@pytest.mark.parametrize("weight", [np.zeros(6), np.full(6, 0.3)])
def test_equal_weights_and_empty_slides_are_drawn(weight):
    assert overlay(GLASS, 1.0, CENTRES, weight, 112.0, title="attention").mode == "RGB"
    assert overlay(GLASS, 1.0, np.zeros((0, 2)), np.zeros(0), 112.0).mode == "RGB"


GROUPS = (("tumor", "#d55e00"), ("a name that is so long that the legend needs a second line", "#0072b2"))


def test_the_map_of_groups_has_the_colour_of_each_tile_s_group_and_a_legend():
    group = np.array([0, 1, -1, 1, 0, -1])
    picture = np.asarray(overlay_groups(GLASS, 2.0, CENTRES, group, 112.0, GROUPS), int)
    for (x, y), value in zip(CENTRES.round().astype(int), group, strict=True):
        red, _, blue = picture[y, x]
        assert (int(red > blue + 30), int(blue > red + 30)) == {0: (1, 0), 1: (0, 1), -1: (0, 0)}[value]
    legend = picture[600:].reshape(-1, 3).tolist()
    assert [0xD5, 0x5E, 0] in legend
    assert [0, 0x72, 0xB2] in legend
    narrow = overlay_groups(GLASS[:, :100], 2.0, CENTRES, group, 112.0, GROUPS, title="20x")
    assert (
        narrow.height > overlay_groups(GLASS[:, :100], 2.0, CENTRES, group, 112.0, GROUPS[:1] * 2, title="20x").height
    )


def test_the_map_of_groups_keeps_tissue_visible_and_draws_empty_slides():
    striped = GLASS.copy()
    striped[:, ::4] = 90
    picture = np.asarray(overlay_groups(striped, 1.0, CENTRES, np.zeros(6, int), 112.0, GROUPS).convert("L"), float)
    assert np.abs(np.diff(picture[2 * 168, 2 * 130 : 2 * 200])).max() > 15
    assert overlay_groups(GLASS, 1.0, np.zeros((0, 2)), np.zeros(0, int), 112.0, GROUPS).mode == "RGB"


@pytest.mark.parametrize("group", [[0, 1, 2, 0, 0, 0], [0, -2, 0, 0, 0, 0], [0]])
def test_groups_that_do_not_fit_are_refused(group):
    with pytest.raises(ValueError, match="group"):
        overlay_groups(GLASS, 1.0, CENTRES, np.array(group), 112.0, GROUPS)


def test_weights_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="NaN"):
        overlay(GLASS, 1.0, CENTRES, np.full(6, np.nan), 112.0)
    with pytest.raises(ValueError, match="5 weights"):
        overlay(GLASS, 1.0, CENTRES, np.zeros(5), 112.0)


def test_the_outline_runs_around_the_tiles_and_not_between_them():
    pixels = np.asarray(outlined(GLASS, 1.0, CENTRES, 112.0, 400)).astype(int)
    line = np.abs(pixels - 235).sum(axis=2) > 100
    assert line[112:336, 111:114].any(axis=1).all()  # left edge of the block of 3 × 2 tiles
    assert line[111:114, 112:400].any(axis=0).all()
    assert not line[116:220, 220:230].any()  # the seam between two tiles
    assert not line[:108].any()


def test_the_qc_page_is_self_contained_and_complete(tmp_path):
    store = FeatureStore.create(
        tmp_path / "f.zarr", {"name": "net<1>", "weights": "0", "dim": 4, "preprocessing": {}}, {10: 1.0, 20: 0.5}
    )
    noise = np.random.default_rng(0).integers(0, 255, (512, 400, 3), np.uint8)
    for name, n in (("a&b", 6), ("c", 6), ("d", 6), ("few", 1)):
        bag = SlideFeatures(np.ones((n, 4)), CENTRES[:n], np.zeros(n))
        coarse = SlideFeatures(np.ones((1, 4)), np.array([[112.0, 112.0]]))
        attributes = {"mpp": 0.2525, "mpp_source": "aperio.MPP", "thumbnail_mpp": 2.0, "dimensions": [9000, 8000]}
        store.write(name, {10: coarse, 20: bag}, attributes, noise)
    path = write_qc(store, [Failure("x/bad.svs", "no_mpp", "x/bad.svs: <unknown>")], str(tmp_path / "qc.html"))
    page = open(path, encoding="utf-8").read()
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(pictures) == 4
    for picture in pictures:
        assert max(Image.open(io.BytesIO(base64.b64decode(picture))).size) == 300
    assert not re.search(r'(src|href)="(?!data:)', page)
    for text in (
        "a&amp;b",
        "net&lt;1&gt;",
        "<td>x/bad.svs</td>",
        "<td>&lt;unknown&gt;</td>",
        "1 at 10x, 6 at 20x tiles",
        "0.2525 µm/px (aperio.MPP)",
    ):
        assert text in page
    assert page.count('class="card few"') == 1


def test_the_qc_page_of_many_slides_shows_extremes_and_lists_all_odd_slides(tmp_path, monkeypatch):
    """A mask that includes glass gives the most tiles, one that misses the tissue the fewest."""
    monkeypatch.setattr("dmml.slides.qc.page.MAX_CARDS", 8)
    store = FeatureStore.create(
        tmp_path / "f.zarr", {"name": "x", "weights": "0", "dim": 4, "preprocessing": {}}, {20: 0.5}
    )
    for i in range(20):
        n = 40 + i
        attributes = {"mpp": 0.5, "mpp_source": "x", "findings": {"pen": 1.0, "fold": 1.0} if i == 7 else {}}
        if i in range(9, 15):
            attributes["findings"] = {"unreadable": 0.25}
        bag = SlideFeatures(np.ones((n, 4)), np.zeros((n, 2)))
        store.write(f"s{i:02}", {20: bag}, attributes)
    page = open(write_qc(store, [], str(tmp_path / "qc.html")), encoding="utf-8").read()
    cards, table = page.split("<h2>Odd, not pictured</h2>")
    pictured = re.findall(r"<b>(s\d\d)</b>", cards)
    assert pictured == ["s00", "s01", "s07", "s09", "s10", "s11", "s18", "s19"]
    assert re.findall(r"<td>(s\d\d)</td>", table) == ["s12", "s13", "s14"]
    assert "8 slides are pictured" in page
    assert "The other 12 are not" in page
    assert cards.count("0.25 mm² could not be decoded") == 3


def test_a_scan_coarser_than_its_tiles_is_named(tmp_path):
    store = FeatureStore.create(
        tmp_path / "f.zarr", {"name": "x", "weights": "0", "dim": 4, "preprocessing": {}}, {20: 0.5}
    )
    for name, mpp in (("coarse", 0.6), ("true", 0.5016)):
        store.write(name, {20: SlideFeatures(np.ones((2, 4)), np.zeros((2, 2)))}, {"mpp": mpp, "mpp_source": "x"})
    page = open(write_qc(store, [], str(tmp_path / "qc.html")), encoding="utf-8").read()
    assert page.count("coarser than its tiles") == 1
    assert "scanned at 0.6 µm/px, coarser than its tiles of 0.5: these are enlarged 1.20 times" in page
