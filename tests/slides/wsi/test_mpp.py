"""µm per pixel: which values are plausible, in which order they are tried, and which are refused."""

import pytest

from dmml.errors import InputError
from dmml.slides.wsi.mpp import check_mpp, resolve_mpp


@pytest.mark.parametrize(
    ("properties", "mpp", "source"),
    [
        ({"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25", "aperio.MPP": "0.5"}, 0.25, "openslide.mpp-x"),
        ({"aperio.MPP": "0.4990"}, 0.499, "aperio.MPP"),
        ({"hamamatsu.XResolution": "40000", "hamamatsu.YResolution": "40000"}, 0.25, "hamamatsu.XResolution"),
        ({"tiff.XResolution": "50800", "tiff.ResolutionUnit": "inch"}, 0.5, "tiff.XResolution"),
        ({"tiff.XResolution": "20000", "tiff.ResolutionUnit": "centimeter"}, 0.5, "tiff.XResolution"),
        ({"philips.DICOM_PIXEL_SPACING": '"0.000250" "0.000250"'}, 0.25, "philips.DICOM_PIXEL_SPACING"),
        ({"openslide.mpp-x": "0.2265", "openslide.mpp-y": "0.2275"}, 0.227, "openslide.mpp-x"),
        ({"openslide.mpp-x": "352.8", "openslide.mpp-y": "352.8", "aperio.MPP": "0.5"}, 0.5, "aperio.MPP"),
        ({"openslide.mpp-x": "nonsense", "aperio.MPP": "0.5"}, 0.5, "aperio.MPP"),
    ],
)
def test_the_first_plausible_key_gives_the_scale(properties, mpp, source):
    if source.startswith("philips"):  # mm: 0.00025 mm is 0.25 µm
        assert resolve_mpp("s", properties).mpp == pytest.approx(0.25)
    scale = resolve_mpp("s", properties, user_mpp=1.5)
    assert scale.mpp == pytest.approx(mpp)
    assert scale.source == source


def test_objective_power_is_never_used():
    with pytest.raises(InputError, match=r"^a\.svs: µm per pixel unknown .*openslide\.mpp-x.*aperio\.MPP.*--mpp"):
        resolve_mpp("a.svs", {"openslide.objective-power": "40", "aperio.AppMag": "40"})


def test_the_user_s_scale_is_used_only_without_a_plausible_one():
    assert resolve_mpp("s", {}, 0.3).source == "--mpp"
    assert resolve_mpp("s", {"openslide.mpp-x": "352.8", "openslide.mpp-y": "352.8"}, 0.3).mpp == 0.3
    assert resolve_mpp("s", {"openslide.mpp-x": "0.5", "openslide.mpp-y": "0.5"}, 0.3).mpp == 0.5


def test_implausible_metadata_is_named():
    with pytest.raises(InputError, match=r"352\.8 µm/px, outside 0\.1–2"):
        resolve_mpp("s", {"openslide.mpp-x": "352.8", "openslide.mpp-y": "352.8"})


def test_pixels_that_are_not_square_are_refused():
    with pytest.raises(InputError, match=r"not square.*0\.25 × 0\.26") as caught:
        resolve_mpp("s", {"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.26"})
    assert caught.value.state == "not_square"


@pytest.mark.parametrize("value", [0.0, -1.0, 0.04, 5.1, 40.0, float("nan")])
def test_an_implausible_option_is_refused(value):
    with pytest.raises(InputError, match="--mpp"):
        check_mpp(value)
