"""One damaged level of a pyramid: the next finer one is read in its place, and the output says so."""

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from dmml.commands.extract import _report
from dmml.slides.extraction.extract import extract
from dmml.slides.reading.tile_reading import SlideSource
from dmml.slides.slide_error import SlideError
from dmml.slides.tiling.layout import SlideRequest
from dmml.slides.wsi.slide import Slide
from dmml.store import FeatureStore

NOTE = "level 1 (1792 × 1344 px) is damaged: more than 20% of its tiles cannot be decoded; level 0 (3584 × 2688 px) is read instead"
LEVELS = {"mpp": 0.25, "size": (3584, 2688), "boxes": ((448, 448, 1792, 1344),), "levels": (1, 2, 4)}
"""A slide of 40x, whose 20x tiles are read from its second level"""


def damage(path, page, share=1.0, truncate=False):
    """Overwrite compressed tiles of a page with zeros, or all but their first 16 bytes, spread evenly."""
    with tifffile.TiffFile(path) as tiff:
        pieces = list(zip(tiff.pages[page].dataoffsets, tiff.pages[page].databytecounts, strict=True))
    time = path.stat().st_mtime_ns
    with open(path, "r+b") as file:
        for index, (offset, size) in enumerate(pieces):
            if int((index + 1) * share) > int(index * share):
                kept = 16 if truncate else 0
                file.seek(offset + kept)
                file.write(bytes(size - kept))
    os.utime(path, ns=(time, time))
    return path


def features(store, slide="a"):
    return {m: FeatureStore(store).read(slide, m) for m in (10, 20)}


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("truncate", [False, True])
def test_tiles_of_a_damaged_level_are_read_from_the_next_finer_one(make_slide, small_encoder, capsys, truncate):
    """They are those of the same slide without that level, and console, store and page name both levels."""
    damage(make_slide("damaged/a.tif", **LEVELS), 1, truncate=truncate)
    make_slide("without/a.tif", **{**LEVELS, "levels": (1, 4)})
    result = extract(["damaged"], "damaged.zarr", small_encoder)
    extract(["without"], "without.zarr", small_encoder)
    assert (result.written, result.failures) == (["a"], [])
    for m, bag in features("without.zarr").items():
        np.testing.assert_array_equal(features("damaged.zarr")[m].features, bag.features)
        np.testing.assert_array_equal(features("damaged.zarr")[m].position, bag.position)
    attributes = FeatureStore("damaged.zarr").slide_attributes("a")
    assert (attributes["notes"], attributes["tiles_unreadable"]) == ([NOTE], 0)
    assert NOTE in Path("qc.html").read_text(encoding="utf-8")
    _report("damaged.zarr", result)
    assert f"note: a: {NOTE}" in capsys.readouterr().out


@pytest.mark.slow
def test_the_choice_of_the_level_depends_on_the_file_alone(make_slide, small_encoder, monkeypatch):
    """Not on the number of readers, nor on where a run was interrupted."""
    damage(make_slide("in/a.tif", **LEVELS), 1, share=0.6)
    extract(["in"], "thread.zarr", small_encoder)
    extract(["in"], "processes.zarr", small_encoder, readers=2)
    start, calls = type(small_encoder).start, []

    def dies(self, tiles):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return start(self, tiles)

    with monkeypatch.context() as patch:
        patch.setattr(type(small_encoder), "start", dies)
        with pytest.raises(KeyboardInterrupt):
            extract(["in"], "cut.zarr", small_encoder, batch_size=8)
    assert extract(["in"], "cut.zarr", small_encoder).resumed_tiles > 0
    assert contents("thread.zarr") == contents("processes.zarr") == contents("cut.zarr")
    assert FeatureStore("cut.zarr").slide_attributes("a")["notes"] == [NOTE]


def test_a_few_damaged_tiles_of_a_level_are_left_out_and_counted(make_slide):
    """As long as they are no more than a fifth."""
    path = damage(make_slide("a.tif", **LEVELS), 1, share=0.03)
    layout = SlideSource().lay_out(SlideRequest(path, (20,)))
    assert layout.damaged_levels == ()
    assert "notes" not in layout.attributes


def test_a_damaged_finest_level_has_no_substitute(make_slide):
    path = damage(damage(make_slide("a.tif", **LEVELS), 0), 1)
    with Slide(path) as slide:
        slide.ignore_damaged(1, 0.5, "all")
        with pytest.raises(SlideError, match="cannot be decoded"):
            slide.read(200, 200, 64, 64, 0.5)


def test_the_tissue_of_a_large_slide_is_found_on_the_next_finer_level(make_slide, monkeypatch):
    monkeypatch.setattr("dmml.slides.wsi.slide.SMALL_SLIDE_PX", 0)
    whole = SlideSource().lay_out(SlideRequest(make_slide("whole.tif", **{**LEVELS, "levels": (1, 2)}), (10, 20)))
    path = damage(make_slide("a.tif", **{**LEVELS, "levels": (1, 2, 8)}), 2)
    layout = SlideSource().lay_out(SlideRequest(path, (10, 20)))
    for m in (10, 20):
        np.testing.assert_array_equal(layout.tiles[m].cell, whole.tiles[m].cell)
    assert layout.damaged_levels == (2,)
    assert layout.attributes["notes"] == [
        "level 2 (448 × 336 px) is damaged: more than 20% of it cannot be decoded; level 1 (1792 × 1344 px) is read instead"
    ]
