"""The regions of a slide as a small picture whose pixel values are tissue types."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

from dmml.simulate.regions import GLASS, TISSUE_COLOURS, TISSUE_NAMES
from dmml.simulate.target_folder import write_whole


def write_labels(path: Path, labels: np.ndarray) -> None:
    """Tissue labels (rows, columns) as a small picture whose pixel values are the labels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(labels, mode="P")
    picture.putpalette([value for colour in TISSUE_COLOURS for value in colour])
    part = path.with_name(f".{path.name}.part")
    picture.save(part, format="PNG")
    os.replace(part, path)


def write_label_key(path: Path, um_per_pixel: float) -> None:
    """What the label pictures mean: names by value, and their scale."""
    key = {
        "labels": {name: value for value, name in enumerate(TISSUE_NAMES)},
        "um_per_pixel": um_per_pixel,
        "background": GLASS,
    }
    write_whole(path, json.dumps(key, indent=2) + "\n")
