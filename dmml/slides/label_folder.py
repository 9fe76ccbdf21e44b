"""Reads regions of slides from label images: small pictures whose pixel values name a tissue, at a fixed scale.

A folder of label images holds one PNG per slide, `<slide_id>.png`, and a key, `labels.json`::

    {"labels": {"glass": 0, "tumor": 1, …}, "um_per_pixel": 4.0, "background": 0}

The top left corner of an image is the slide's origin. `dmml simulate` writes the truth in this form (`truth/`), and an
annotation of your own can be saved in the same way.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dmml.errors import InputError

KEY = "labels.json"


@dataclass(frozen=True)
class LabelFolder:
    """A folder of label images.

    Attributes:
        path: The folder.
        names: Name of each label value.
        um_per_pixel: Scale of the images, µm.
        background: Label of pixels without tissue; None if every label is tissue.
    """

    path: Path
    names: dict[int, str]
    um_per_pixel: float
    background: int | None

    def image(self, slide_id: str) -> np.ndarray:
        """Read the (rows, columns) labels of a slide.

        Raises:
            InputError: There is no label image of the slide, or it holds a value that the key does not name.
        """
        path = self.path / f"{slide_id}.png"
        if not path.is_file():
            raise InputError(f"{path}: does not exist; the folder has no label image of the slide {slide_id}")
        with Image.open(path) as picture:
            labels = np.asarray(picture)
        if labels.ndim != 2 or (unknown := set(np.unique(labels).tolist()) - set(self.names)):
            content = f"values {sorted(unknown)}" if labels.ndim == 2 else f"{labels.shape[2]} channels"
            raise InputError(
                f"{path}: holds {content}, but {KEY} names the values {sorted(self.names)} of one channel; "
                "name every value, or write the image again"
            )
        return labels

    def regions(self, slide_id: str, position: np.ndarray, tile_um: float) -> list[str]:
        """Name the most frequent tissue of each tile; background counts only where a tile holds nothing else.

        Args:
            slide_id: Id of the slide.
            position: (N, 2) µm, centres of the tiles from the slide's origin.
            tile_um: Side of a tile, µm.

        Returns:
            (N,) names. Of tissues with equally many pixels, the one of the smallest value is named; a tile beside the
            image has the name of the background, or is empty if there is none.
        """
        shares = label_shares(self.image(slide_id), self.um_per_pixel, position, tile_um, max(self.names) + 1)
        has_label = shares.sum(axis=1) > 0
        if self.background is not None:
            only_background = has_label & (shares[:, self.background] == shares.sum(axis=1))
            has_label &= ~only_background
            shares[:, self.background] = 0
        outside = "" if self.background is None else self.names[self.background]
        return [
            self.names[label] if inside else outside
            for label, inside in zip(shares.argmax(axis=1), has_label, strict=True)
        ]


def read_label_folder(path: str | Path) -> LabelFolder:
    """Read the key of a folder of label images.

    Raises:
        InputError: The folder has no key, or the key is not as described in this module.
    """
    key = Path(path) / KEY
    if not key.is_file():
        raise InputError(f"{key}: does not exist; a folder of label images needs this key")
    try:
        content = json.loads(key.read_text(encoding="utf-8"))
        names = {int(value): str(name) for name, value in content["labels"].items()}
        scale, background = float(content["um_per_pixel"]), content.get("background")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f'{key}: is not a key of label images; write {{"labels": {{name: value}}, "um_per_pixel": number}}'
        ) from error
    if not names or not scale > 0 or (background is not None and background not in names):
        raise InputError(f"{key}: needs at least one label, a positive um_per_pixel, and a background among the labels")
    return LabelFolder(Path(path), names, scale, background)


def label_shares(
    labels: np.ndarray, um_per_pixel: float, position: np.ndarray, tile_um: float, n_labels: int
) -> np.ndarray:
    """Compute the share of each label among the pixels of each tile.

    A pixel belongs to a tile if its centre does. Pixels beyond the edge of the image have no label.

    Args:
        labels: (rows, columns) values below `n_labels`.
        um_per_pixel: Scale of the labels, µm.
        position: (N, 2) µm, centres of the tiles from the slide's origin.
        tile_um: Side of a tile, µm.
        n_labels: Number of possible values.

    Returns:
        (N, n_labels) shares of the tile's pixels that lie on the image; 0 for a tile beside it.
    """
    corners = np.asarray(position, np.float64)[:, None] + np.array([-0.5, 0.5])[:, None] * tile_um  # (N, 2 ends, xy)
    edges = np.ceil(corners / um_per_pixel - 0.5).astype(int)  # the first pixel whose centre is not before the corner
    edges = np.clip(edges, 0, np.array(labels.shape[::-1]))
    shares = np.zeros((len(edges), n_labels))
    for i, ((left, top), (right, bottom)) in enumerate(edges.tolist()):
        counts = np.bincount(labels[top:bottom, left:right].ravel(), minlength=n_labels)
        shares[i] = counts / max(1, counts.sum())
    return shares
