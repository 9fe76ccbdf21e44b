"""A reader keeps small slides open from their layout to their last tile, and only a few."""

import os

import numpy as np
import pytest

from dmml.slides.reading.tile_reading import SlideSource
from dmml.slides.slide_error import SlideError
from dmml.slides.tiling.layout import SlideRequest
from dmml.slides.tiling.tile_groups import tile_groups
from dmml.slides.wsi.jpeg_level import JpegLevel


@pytest.fixture
def requests(make_slide):
    return [SlideRequest(make_slide(f"s{number}.tif"), (10, 20)) for number in range(5)]


@pytest.fixture
def decoded(monkeypatch):
    """The tiles of levels that are decoded from now on."""
    decode, tiles = JpegLevel.decode, []

    def noted(self, file, index):
        tiles.append((file.name, self.grid, index))
        return decode(self, file, index)

    monkeypatch.setattr(JpegLevel, "decode", noted)
    return tiles


def read_all(source, request, layout):
    return np.concatenate([source.read(request, group).pixels for group in tile_groups(layout.tiles)])


def n_open(requests):
    """How many of the slides this process has open."""
    links = (os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd"))
    return len({str(request.path.resolve()) for request in requests}.intersection(links))


def test_tiles_of_a_small_slide_are_cut_from_what_its_layout_decoded(requests, decoded):
    source = SlideSource()
    layouts = [source.lay_out(request) for request in requests[:2]]
    decoded.clear()
    pixels = [read_all(source, *pair) for pair in zip(requests, layouts, strict=False)]
    assert not decoded
    for request, layout, seen in zip(requests, layouts, pixels, strict=False):
        assert np.array_equal(read_all(SlideSource(), request, layout), seen)  # by a reader that did not lay it out
    assert decoded
    source.close()


def test_a_large_slide_is_closed_after_its_layout(requests, monkeypatch):
    monkeypatch.setattr("dmml.slides.reading.tile_reading._KEPT_PX", 1000)
    source = SlideSource()
    layout = source.lay_out(requests[0])
    assert not n_open(requests)
    assert len(read_all(source, requests[0], layout))
    source.close()


def test_at_most_three_slides_stay_open_and_none_at_the_end(requests):
    source = SlideSource()
    layouts = [source.lay_out(request) for request in requests]
    assert len(source._slides) == 3
    assert len(read_all(source, requests[0], layouts[0]))  # opened again
    assert len(source._slides) == 3
    source.close()
    assert not n_open(requests)


def test_a_slide_that_is_refused_is_closed(make_slide):
    request = SlideRequest(make_slide("glass.tif", boxes=()), (10, 20))
    source = SlideSource()
    with pytest.raises(SlideError, match="holds 25% tissue"):
        source.lay_out(request)
    assert not n_open([request])
