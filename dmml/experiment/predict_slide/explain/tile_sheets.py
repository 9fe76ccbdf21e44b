"""Sheets of the tiles that add most and least to each subspace's part of an answer, with pixels read from the slides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dmml.slides.slide_error import SlideError
from dmml.slides.wsi.slide import Slide
from dmml.types import SUBSPACES, Batch

if TYPE_CHECKING:
    from PIL.Image import Image

_GAP, _LINE, _TITLE, _FONT = 6, 16, 22, 12
"""Space between tiles, height of the values and of the titles, and size of the font, pixels per `_SIDE` of a tile"""
_SIDE = 96
_INK = (40, 40, 40)


@dataclass(frozen=True)
class TileSheet:
    """The tiles of one magnification that add most and least to one subspace's part.

    Attributes:
        magnification: Magnification of the tiles.
        subspace: The subspace.
        top: Indices of the tiles that add most, the largest first.
        bottom: Indices of the tiles that add least, the smallest first; no tile is in both.
        measure: What the values are: "contribution" or "attention".
        image: The tiles, each above its value.
    """

    magnification: int
    subspace: str
    top: NDArray[np.int64]
    bottom: NDArray[np.int64]
    measure: str
    image: Image

    @property
    def name(self) -> str:
        """Name of its file, without suffix."""
        return f"tiles_{self.magnification}x_{self.subspace}"


def extreme_tiles(values: NDArray[np.float64], n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of the n largest values, descending, and of the n smallest, ascending; half each if there are fewer than 2 n."""
    order = np.argsort(-values, kind="stable")
    n = min(n, len(values) // 2) if len(values) > 1 else len(values)
    return order[:n], order[::-1][: min(n, len(values) - n)]


def tile_sheets(
    slides: Sequence[Path],
    batch: Batch,
    scores: Mapping[tuple[int, str], NDArray[np.float64]],
    tile_um: Mapping[int, float],
    n: int,
    side: int,
    mpp: float | None = None,
    measure: str = "contribution",
) -> list[TileSheet]:
    """Draw a sheet for every subspace and magnification with a value other than 0.

    Args:
        slides: The patient's slides, in the order of `Bag.slide`.
        batch: B = 1.
        scores: {(magnification, part): (N,) value of each tile}; other parts than the subspaces are ignored.
        tile_um: {magnification: side of a tile in µm}.
        n: Number of tiles in each of the two rows.
        side: Side of a tile in the image, pixels.
        mpp: µm per pixel, used only for slides that do not state it.
        measure: What the values are, for the titles.
    """
    extremes = {
        (m, s): extreme_tiles(scores[m, s], n)
        for m in sorted(batch.bags)
        for s in SUBSPACES
        if (m, s) in scores and scores[m, s].any()
    }
    wanted = {(m, int(i)) for (m, _), rows in extremes.items() for row in rows for i in row}
    pixels = dict(_read_tiles(slides, batch, sorted(wanted), tile_um, side, mpp))
    sheets = []
    for (m, s), (top, bottom) in extremes.items():
        rows = [[(pixels[m, int(i)], f"{scores[m, s][i]:+.3f}") for i in row] for row in (top, bottom)]
        sheets.append(TileSheet(m, s, top, bottom, measure, _sheet(rows, side, measure)))
    return sheets


def _read_tiles(
    slides: Sequence[Path],
    batch: Batch,
    wanted: Sequence[tuple[int, int]],
    tile_um: Mapping[int, float],
    side: int,
    mpp: float | None,
) -> Iterator[tuple[tuple[int, int], NDArray[np.uint8]]]:
    """Yield ((magnification, index), (side, side, 3) pixels) of tiles; one that cannot be decoded is grey."""
    for index, path in enumerate(slides):
        on_slide = [(m, i) for m, i in wanted if int(batch.bags[m].slide[0, i]) == index]
        if not on_slide:
            continue
        with Slide(path, mpp) as slide:
            for m, i in on_slide:
                um = tile_um[m]
                x, y = (batch.bags[m].position[0, i].double() - um / 2).tolist()
                try:
                    yield (m, i), slide.read(x, y, side, side, um / side)
                except SlideError:
                    yield (m, i), np.full((side, side, 3), 200, np.uint8)


def _sheet(rows: Sequence[Sequence[tuple[NDArray[np.uint8], str]]], side: int, measure: str) -> Image:
    """Draw two rows of tiles with their values below them; values have a hyphen, since the font has no minus sign."""
    from PIL import Image, ImageDraw, ImageFont

    gap, line, title_height, font_size = (round(size * side / _SIDE) for size in (_GAP, _LINE, _TITLE, _FONT))
    titles = (f"highest {measure}", f"lowest {measure}")
    drawn = [(title, row) for title, row in zip(titles, rows, strict=True) if row]
    font = ImageFont.load_default(max(font_size, 8))
    n, step = max(len(row) for row in rows), title_height + side + line + gap
    width = max(n * (side + gap) + gap, 2 * gap + round(max(font.getlength(title) for title in titles)))
    sheet = Image.new("RGB", (width, len(drawn) * step), "white")
    draw = ImageDraw.Draw(sheet)
    for k, (title, row) in enumerate(drawn):
        draw.text((gap, k * step + title_height / 6), title, fill=_INK, font=font)
        top = k * step + title_height
        for j, (pixels, value) in enumerate(row):
            left = gap + j * (side + gap)
            sheet.paste(Image.fromarray(pixels), (left, top))
            draw.text((left + side / 2, top + side + line / 8), value, fill=_INK, font=font, anchor="ma")
    return sheet
