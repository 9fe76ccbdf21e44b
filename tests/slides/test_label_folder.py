"""Regions of tiles from label images, among them the truth that a simulation writes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from dmml.errors import InputError
from dmml.slides.label_folder import label_shares, read_label_folder

KEY = {"labels": {"glass": 0, "tumor": 1, "stroma": 2}, "um_per_pixel": 4.0, "background": 0}


def folder(path, labels, key=KEY):
    path.mkdir()
    (path / "labels.json").write_text(json.dumps(key))
    Image.fromarray(np.asarray(labels, np.uint8)).save(path / "S1.png")
    return path


@pytest.mark.parametrize("scale", [1.0, 3.0, 4.0, 7.5])
def test_the_shares_are_those_of_the_pixels_whose_centres_lie_in_a_tile(scale):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (11, 14)).astype(np.uint8)
    position, side = rng.uniform(-10, 14 * scale + 10, (25, 2)), 3.3 * scale
    shares = label_shares(labels, scale, position, side, 3)
    for (x, y), share in zip(position, shares, strict=True):
        inside = [
            int(labels[row, column])
            for row in range(11)
            for column in range(14)
            if x - side / 2 <= (column + 0.5) * scale < x + side / 2
            and y - side / 2 <= (row + 0.5) * scale < y + side / 2
        ]
        expected = [inside.count(label) / max(1, len(inside)) for label in range(3)]
        np.testing.assert_allclose(share, expected, atol=1e-12)


def test_a_tile_has_its_most_frequent_tissue_and_glass_only_without_any(tmp_path):
    labels = np.zeros((4, 8), np.uint8)
    labels[:, 0] = 1  # one of four columns of the first tile is tumor, the rest is glass
    labels[:2, 4:6] = 2
    labels[3, 4:8] = 1  # the second tile: four pixels of stroma, four of tumor
    read = read_label_folder(folder(tmp_path / "truth", labels))
    position = np.array([[8.0, 8.0], [24.0, 8.0], [16.0, 40.0]])
    assert read.regions("S1", position, 16.0) == ["tumor", "tumor", "glass"]
    without = read_label_folder(folder(tmp_path / "own", labels, {**KEY, "background": None}))
    assert without.regions("S1", position, 16.0) == ["glass", "glass", ""]


def test_a_folder_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"labels\.json: does not exist"):
        read_label_folder(tmp_path)
    bad = folder(tmp_path / "bad", np.full((2, 2), 7))
    with pytest.raises(InputError, match=r"S1\.png: holds values \[7\].* names the values \[0, 1, 2\]"):
        read_label_folder(bad).image("S1")
    with pytest.raises(InputError, match="no label image of the slide S2"):
        read_label_folder(bad).image("S2")
    Image.new("RGB", (2, 2)).save(bad / "S3.png")
    with pytest.raises(InputError, match="3 channels"):
        read_label_folder(bad).image("S3")
    for key in ("[]", '{"labels": {"a": 0}}', '{"labels": {}, "um_per_pixel": 4}', "{"):
        (bad / "labels.json").write_text(key)
        with pytest.raises(InputError, match=r"labels\.json: "):
            read_label_folder(bad)
