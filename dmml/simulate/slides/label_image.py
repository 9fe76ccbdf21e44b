"""Writes the tissue types of a slide as a small image whose pixel values are the tissue types."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from dmml.atomic_files import atomic_write, write_json
from dmml.simulate.slides.tissue_types import GLASS, TISSUE_COLOURS, TISSUE_NAMES


def write_labels(path: Path, labels: np.ndarray) -> None:
    """Write (rows, columns) uint8 tissue labels as a PNG whose pixel values are the labels."""
    image = Image.fromarray(labels, mode="P")
    image.putpalette([value for colour in TISSUE_COLOURS for value in colour])
    with atomic_write(path) as partial:
        image.save(partial, format="PNG")


def write_label_key(path: Path, um_per_pixel: float) -> None:
    """Write the key to the label images: the value of each tissue name, and the scale in µm per pixel."""
    key = {
        "labels": {name: value for value, name in enumerate(TISSUE_NAMES)},
        "um_per_pixel": um_per_pixel,
        "background": GLASS,
    }
    write_json(path, key)
