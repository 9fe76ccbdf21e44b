"""Maps on one patient's slides: what each tile adds to the answer, attention of the deep part, and prototypes."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dmml.evaluation.plots.style import SUBSPACE_COLOR
from dmml.evaluation.report.formatting import percent, signed
from dmml.experiment.predict_slide.prototypes import Prototypes
from dmml.experiment.predict_slide.tile_scores import TileScores
from dmml.slides.colour_scale import ATTENTION_MAP, CONTRIBUTION_MAP, attention_limit, contribution_limit
from dmml.slides.overlay import overlay, overlay_groups
from dmml.types import SUBSPACES, Bag, Batch, SubspaceOutput

if TYPE_CHECKING:
    from PIL.Image import Image

PART_NAMES = {"all": "all parts", "tumor": "tumor", "tme": "TME", "tissue": "tissue-specific part"}


@dataclass(frozen=True)
class Thumbnail:
    """A slide's name, its thumbnail (H, W, 3) uint8, and the thumbnail's µm per pixel."""

    slide_id: str
    pixels: NDArray[np.uint8]
    mpp: float

    def jpeg(self) -> bytes:
        """Return the thumbnail as JPEG."""
        from PIL import Image

        return encoded(Image.fromarray(self.pixels), "JPEG", quality=85)


@dataclass(frozen=True)
class TileMap:
    """One overlay.

    Attributes:
        name: Name of its file, without suffix.
        slide_id: The slide that it lies on.
        title: Title of the overlay.
        caption: Meaning of the colours.
        kind: "attention"; "all" for what tiles add to the whole answer; "part" for what they add to one part of it;
            "prototype" for the clusters of tumor and TME.
        image: The overlay with its title.
        untitled: The same without its title.
    """

    name: str
    slide_id: str
    title: str
    caption: str
    kind: str
    image: Image
    untitled: Image

    def png(self) -> bytes:
        """Return the image as PNG, which is lossless."""
        return encoded(self.image, "PNG")


def tile_maps(
    slides: list[Thumbnail],
    batch: Batch,
    output: SubspaceOutput,
    tile_um: Mapping[int, float],
    tiles: TileScores | None,
    prototypes: Prototypes | None = None,
) -> list[TileMap]:
    """Draw what each tile adds to the answer, the clusters, and attention if the deep part counts at all.

    Args:
        slides: In the order of `Bag.slide`.
        batch: B = 1.
        output: Output of the model for the batch.
        tile_um: {magnification: side of a tile in µm}.
        tiles: What each tile adds; None for a model without a backbone, which has no maps of it.
        prototypes: Clusters of the tiles; None for a model without prototypes.
    """
    maps = [] if tiles is None else contribution_maps(slides, batch, tiles, tile_um)
    maps += [] if prototypes is None else prototype_maps(slides, batch, prototypes, tile_um)
    return maps + (attention_maps(slides, batch, output, tile_um) if tiles is None or tiles.deep_share else [])


def contribution_maps(
    slides: list[Thumbnail], batch: Batch, tiles: TileScores, tile_um: Mapping[int, float]
) -> list[TileMap]:
    """Draw what each tile adds to all parts together and to each part, for every slide and magnification.

    Red tiles raise, and blue ones lower, the number by which the task compares tiles (`Task.direction`). The colour
    scale of a map is the same on all slides of the patient. A part to which no tile adds anything has no map.

    Args:
        slides: In the order of `Bag.slide`.
        batch: B = 1.
        tiles: What each tile adds.
        tile_um: {magnification: side of a tile in µm}.
    """
    maps = []
    for m in tiles.magnifications:
        parts = {part: values for (own_m, part), values in tiles.scores.items() if own_m == m and values.any()}
        for part, values in ({"all": tiles.total(m)} | parts).items():
            end = contribution_limit(values)
            if not end:
                continue
            subject = _Subject(
                file=f"contribution_{m}x" if part == "all" else f"contribution_{m}x_{part}",
                kind="all" if part == "all" else "part",
                part=PART_NAMES[part],
                measure="contribution of each tile",
                caption=f"full colour: ± {end:.1g} per tile; sum of the patient's tiles: {signed(values.sum())}",
            )
            maps += _heat_maps(
                slides, batch.bags[m], m, tile_um[m], values, subject, (-end, end), cmap=CONTRIBUTION_MAP
            )
    return maps


def prototype_maps(
    slides: list[Thumbnail], batch: Batch, prototypes: Prototypes, tile_um: Mapping[int, float]
) -> list[TileMap]:
    """Draw the clusters of tumor and TME for every slide and magnification; tiles in no cluster stay grey.

    Args:
        slides: In the order of `Bag.slide`.
        batch: B = 1.
        prototypes: Clusters of the patient's tiles.
        tile_um: {magnification: side of a tile in µm}.
    """
    groups = [(f"{PART_NAMES[s]} cluster", SUBSPACE_COLOR[s]) for s in SUBSPACES]
    maps = []
    for m, cluster in prototypes.cluster.items():
        maps += _cluster_maps(slides, batch.bags[m], m, tile_um[m], cluster, groups)
    return maps


def _cluster_maps(
    slides: list[Thumbnail],
    bag: Bag,
    magnification: int,
    side_um: float,
    cluster: NDArray[np.int64],
    groups: list[tuple[str, str]],
) -> list[TileMap]:
    """Draw the (N,) clusters of the real tiles of one magnification, which are `side_um` wide."""
    group = np.full(bag.mask.shape[1], -1)
    group[bag.mask[0].numpy()] = cluster

    def draw(slide: Thumbnail, on_slide: NDArray[np.bool_], title: str) -> Image:
        tiles = (bag.position[0].numpy()[on_slide], group[on_slide], side_um)
        return overlay_groups(slide.pixels, slide.mpp, *tiles, groups=groups, title=title)

    subject = _Subject(
        file=f"prototypes_{magnification}x",
        kind="prototype",
        part="prototypes",
        measure="cluster of each tile",
        caption=f"orange: tumor cluster, {percent((cluster == 0).mean())} of the patient's tiles; blue: TME cluster",
    )
    return _overlays(slides, bag, magnification, subject, draw)


def attention_maps(
    slides: list[Thumbnail], batch: Batch, output: SubspaceOutput, tile_um: Mapping[int, float]
) -> list[TileMap]:
    """Draw attention for every slide, magnification and subspace.

    Attention is shown in multiples of the patient's average tile, so that slides with many and with few tiles look
    alike.

    Args:
        slides: In the order of `Bag.slide`.
        batch: B = 1.
        output: Output of the model for the batch.
        tile_um: {magnification: side of a tile in µm}.
    """
    maps = []
    for m, bag in sorted(batch.bags.items()):
        real = bag.mask[0].numpy()
        for s in SUBSPACES if real.any() else ():
            share = output.attention[m, s][0].double().numpy() * real.sum()
            strongest = attention_limit(share[real])
            subject = _Subject(
                file=f"overlay_{m}x_{s}",
                kind="attention",
                part=PART_NAMES[s],
                measure="attention, average tile = 1",
                caption=f"yellow: {strongest:.1f} × the average tile",
            )
            maps += _heat_maps(slides, bag, m, tile_um[m], share, subject, (0.0, strongest))
    return maps


@dataclass(frozen=True)
class _Subject:
    """What a map shows; `measure` is the meaning of its values, and the rest is as in `TileMap`."""

    file: str
    kind: str
    part: str
    measure: str
    caption: str

    def file_on(self, slide_id: str) -> str:
        """Name of the file for one of several slides."""
        what, _, rest = self.file.partition("_")
        return f"{what}_{slide_id}_{rest}"


def _heat_maps(
    slides: list[Thumbnail],
    bag: Bag,
    magnification: int,
    side_um: float,
    values: NDArray[np.float64],
    subject: _Subject,
    limits: tuple[float, float],
    cmap: str = ATTENTION_MAP,
) -> list[TileMap]:
    """Draw numbers as one map on every slide that has tiles.

    Args:
        slides: In the order of `Bag.slide`.
        bag: B = 1.
        magnification: Magnification of the bag.
        side_um: Side of its tiles, µm.
        values: (N,).
        subject: What the map shows.
        limits: Values at the two ends of the colours.
        cmap: See `overlay`.
    """

    def draw(slide: Thumbnail, on_slide: NDArray[np.bool_], title: str) -> Image:
        tiles = (bag.position[0].numpy()[on_slide], values[on_slide], side_um)
        return overlay(slide.pixels, slide.mpp, *tiles, cmap=cmap, title=title, limits=limits)

    return _overlays(slides, bag, magnification, subject, draw)


def _overlays(
    slides: list[Thumbnail],
    bag: Bag,
    magnification: int,
    subject: _Subject,
    draw: Callable[[Thumbnail, NDArray[np.bool_], str], Image],
) -> list[TileMap]:
    """Draw one map on every slide that has tiles.

    Args:
        slides: In the order of `Bag.slide`.
        bag: B = 1.
        magnification: Magnification of the bag.
        subject: What the map shows.
        draw: Function of a slide, (N,) which of the bag's tiles lie on it, and the title; returns the map.
    """
    maps = []
    for index, slide in enumerate(slides):
        on_slide = (bag.mask[0] & (bag.slide[0] == index)).numpy()
        if not on_slide.any():
            continue
        titled, untitled = (
            draw(slide, on_slide, title) for title in (f"{subject.part}, {magnification}x: {subject.measure}", "")
        )
        name = subject.file_on(slide.slide_id) if len(slides) > 1 else subject.file
        title = f"{subject.part}, {magnification}×"
        maps.append(TileMap(name, slide.slide_id, title, subject.caption, subject.kind, titled, untitled))
    return maps


def encoded(image: Image, kind: str, quality: int | None = None) -> bytes:
    """Encode an image as the bytes of a file.

    Args:
        image: The image.
        kind: "PNG" or "JPEG".
        quality: Quality of a JPEG; None for PNG.
    """
    buffer = io.BytesIO()
    # On tissue, level 3 takes half the time of the default and makes no larger files.
    image.save(buffer, kind, **({"compress_level": 3} if quality is None else {"quality": quality}))
    return buffer.getvalue()
