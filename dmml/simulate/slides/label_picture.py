"""Writes the tissue regions of a slide as a small picture whose pixel values are the tissue types."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

from dmml.simulate.slides.regions import GLASS, TISSUE_COLOURS, TISSUE_NAMES
from dmml.simulate.target_folder import write_whole


def write_labels(path: Path, labels: np.ndarray) -> None:
    """Write (rows, columns) uint8 tissue labels as a PNG whose pixel values are the labels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(labels, mode="P")
    picture.putpalette([value for colour in TISSUE_COLOURS for value in colour])
    part = path.with_name(f".{path.name}.part")
    picture.save(part, format="PNG")
    os.replace(part, path)


def write_label_key(path: Path, um_per_pixel: float) -> None:
    """Write the key to the label pictures: the value of each tissue name, and the scale in µm per pixel."""
    key = {
        "labels": {name: value for value, name in enumerate(TISSUE_NAMES)},
        "um_per_pixel": um_per_pixel,
        "background": GLASS,
    }
    write_whole(path, json.dumps(key, indent=2) + "\n")
