"""Maps on one patient's slides: what each tile adds to the answer, and the attention of the deep part."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dmml.evaluation.report.formatting import signed
from dmml.experiment.predict_slide.tile_scores import TileScores
from dmml.slides.overlay import overlay
from dmml.slides.tiling.grid import tile_um
from dmml.types import SUBSPACES, Bag, Batch, SubspaceOutput

if TYPE_CHECKING:
    from PIL.Image import Image

STRONGEST = 99
"""Percentile of the tiles' values at which the colour scale ends"""
LEAST_RANGE = 2.0
"""The colour scale of attention reaches at least twice the average tile, so that even attention looks even"""
_NAMES = {"all": "all parts", "tumor": "tumor", "tme": "TME", "tissue": "tissue-specific part"}


@dataclass(frozen=True)
class SlidePicture:
    """A slide's name, thumbnail (H, W, 3) uint8, and the thumbnail's µm per pixel."""

    slide_id: str
    thumbnail: NDArray[np.uint8]
    mpp: float


@dataclass(frozen=True)
class TileMap:
    """One overlay.

    Attributes:
        name: Name of its file, without suffix.
        slide_id: The slide that it lies on.
        title: Title of the overlay.
        caption: Meaning of the colours.
        kind: "attention"; "all" for what tiles add to the whole answer; "part" for what they add to one part of it.
        image: The overlay with its title.
        plain: The same without its title.
    """

    name: str
    slide_id: str
    title: str
    caption: str
    kind: str
    image: Image
    plain: Image

    def png(self) -> bytes:
        """Return the image as PNG, which is lossless."""
        return encoded(self.image, "PNG")


def tile_maps(
    slides: list[SlidePicture], batch: Batch, output: SubspaceOutput, tiles: TileScores | None
) -> list[TileMap]:
    """Draw what each tile adds to the answer, and the attention of the deep part if that part counts at all.

    Args:
        slides: In the order of `Bag.slide`.
        batch: B = 1.
        output: Output of the model for the batch.
        tiles: What each tile adds; None for a model without a backbone, for which only attention is drawn.
    """
    contributions = [] if tiles is None else contribution_maps(slides, batch, tiles)
    return contributions + (attention_maps(slides, batch, output) if tiles is None or tiles.deep_share else [])


def contribution_maps(slides: list[SlidePicture], batch: Batch, tiles: TileScores) -> list[TileMap]:
    """Draw what each tile adds to all parts together and to each part, for every slide and magnification.

    Red tiles raise, and blue ones lower, the number by which the task compares tiles (`Task.direction`). The colour
    scale of a map is the same on all slides of the patient. A part to which no tile adds anything has no map.

    Args:
        slides: In the order of `Bag.slide`.
        batch: B = 1.
        tiles: What each tile adds.
    """
    maps = []
    for m in tiles.magnifications:
        parts = {part: values for (own, part), values in tiles.scores.items() if own == m and values.any()}
        for part, values in ({"all": tiles.total(m)} | parts).items():
            end = float(np.percentile(np.abs(values), STRONGEST)) or float(np.abs(values).max())
            if not end:
                continue
            caption = f"full colour: ± {end:.1g} a tile; all tiles of the patient: {signed(values.sum())}"
            name = f"contribution_{m}x" if part == "all" else f"contribution_{m}x_{part}"
            kind, scale = "all" if part == "all" else "part", {"cmap": "RdBu_r", "limits": (-end, end)}
            subject = (_NAMES[part], "what each tile adds")
            maps += _overlays(slides, batch.bags[m], m, values, (name, kind, *subject, caption), scale)
    return maps


def attention_maps(slides: list[SlidePicture], batch: Batch, output: SubspaceOutput) -> list[TileMap]:
    """Draw attention for every slide, magnification and subspace.

    Attention is shown in multiples of the patient's average tile, so that slides with many and with few tiles look
    alike.

    Args:
        slides: In the order of `Bag.slide`.
        batch: B = 1.
        output: Output of the model for the batch.
    """
    maps = []
    for m, bag in sorted(batch.bags.items()):
        real = bag.mask[0].numpy()
        for s in SUBSPACES if real.any() else ():
            share = output.attention[m, s][0].double().numpy() * real.sum()
            strongest = max(float(np.percentile(share[real], STRONGEST)), LEAST_RANGE)
            text = (f"overlay_{m}x_{s}", "attention", _NAMES[s], "attention, average tile = 1")
            caption = f"yellow: {strongest:.1f} × the average tile"
            maps += _overlays(slides, bag, m, share, (*text, caption), {"limits": (0.0, strongest)})
    return maps


def _overlays(
    slides: list[SlidePicture],
    bag: Bag,
    magnification: int,
    values: NDArray[np.float64],
    text: tuple[str, str, str, str, str],
    scale: dict[str, Any],
) -> list[TileMap]:
    """Draw one map on every slide that has tiles.

    Args:
        slides: In the order of `Bag.slide`.
        bag: B = 1.
        magnification: Magnification of the bag.
        values: (N,).
        text: Name of the file, kind, subject, what is shown of it, and caption.
        scale: Colour arguments for `overlay`.
    """
    file, kind, subject, shown, caption = text
    maps = []
    for index, slide in enumerate(slides):
        own = (bag.mask[0] & (bag.slide[0] == index)).numpy()
        if not own.any():
            continue
        place = (bag.position[0].numpy()[own], values[own], tile_um(magnification))
        titled, plain = (
            overlay(slide.thumbnail, slide.mpp, *place, title=title, **scale)
            for title in (f"{subject}, {magnification}x: {shown}", "")
        )
        what, _, where = file.partition("_")
        name = f"{what}_{slide.slide_id}_{where}" if len(slides) > 1 else file
        maps.append(TileMap(name, slide.slide_id, f"{subject}, {magnification}×", caption, kind, titled, plain))
    return maps


def encoded(image: Image, kind: str, **options: Any) -> bytes:
    """Encode an image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
