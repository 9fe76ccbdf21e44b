"""What `dmml predict-slide` writes is what the viewer shows, with and without the slide's file."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from dmml.viewer.open_path import open_path
from dmml.viewer.page_data import PageData

pytestmark = pytest.mark.slow


def viewed(folder, slides=(), thumbnails=False):
    return PageData(open_path(str(folder), slides, thumbnails))


def test_the_viewer_shows_the_answer(models, whole_slide):
    data = viewed(whole_slide.folder, [models.svs])
    described = data.slide(0)
    assert described["lines"] == whole_slide.record["answer"]
    assert described["use"].startswith("For research use only")
    assert described["note"] is None
    sums = whole_slide.record["backbone"]["tiles"]
    for scale in described["magnifications"]:
        m = scale["magnification"]
        assert scale["n"] == whole_slide.record["slides"][0]["tiles"][str(m)]
        numbers = np.frombuffer(data.numbers(0, m), "<f4").reshape(-1, scale["n"])
        totals = {each["name"]: values.sum() for each, values in zip(scale["measurements"], numbers[5:], strict=True)}
        expected = sum(value for name, value in sums.items() if name.startswith(f"{m}x_"))
        assert totals["contribution, all parts"] == pytest.approx(expected, abs=1e-4)
    data.close()


def test_the_thumbnail_of_the_answer_shows_the_same_tiles(models, whole_slide):
    pictures = []
    for data in (viewed(whole_slide.folder, [models.svs]), viewed(whole_slide.folder, thumbnails=True)):
        fine = data.slide(0)["magnifications"][-1]
        squares = [data.square(0, fine["magnification"], row) for row in range(0, fine["n"], 5)]
        pictures.append([np.asarray(Image.open(io.BytesIO(each)), float).mean(axis=(0, 1)) for each in squares])
        data.close()
    of_slide, of_thumbnail = np.array(pictures)
    assert np.abs(of_slide - of_thumbnail).mean() < 4
    assert np.abs(of_slide - np.roll(of_thumbnail, 1, axis=0)).mean() > 12  # tiles do differ


def test_the_slide_is_recorded_in_the_answer_by_name_and_not_by_path(whole_slide):
    slide = json.loads((whole_slide.folder / "prediction.json").read_text())["slides"][0]
    assert "/" not in slide["source"]
