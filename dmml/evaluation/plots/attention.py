"""Maps of tile contributions and of each subspace's attention over the thumbnails of a few slides, as small images."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dmml.errors import InputError
from dmml.evaluation.plots.style import SUBSPACE_COLOR, VERMILLION
from dmml.evaluation.report.formatting import signed

if TYPE_CHECKING:
    from PIL.Image import Image

LONG_SIDE = 420
"""Length of an image's longer side in pixels: sharp on a phone, and four slides stay well under a megabyte."""
STRONGEST = 0.99
"""Quantile of attention that gets the full colour, so that a single tile does not make all others pale."""
MIN_RANGE = 2.5
"""Minimum end of the colour scale in multiples of the average tile's attention, so that even attention looks even."""
_PAPER, _TILE = 244, 222
"""Grey values of glass and of tiles on slides without a thumbnail."""
_RAISES, _LOWERS = "#b2182b", "#2166ac"
"""Red and blue that people who cannot see red can distinguish, too."""


@dataclass(frozen=True)
class Panel:
    """One image: `pixels` (H, W, 3) uint8, with its `title` and `caption`."""

    name: str
    title: str
    caption: str
    pixels: NDArray[np.uint8]

    def jpeg(self) -> bytes:
        """The image, compressed for a page; `plots/` keeps the lossless one."""
        buffer = io.BytesIO()
        self._image().save(buffer, "JPEG", quality=60, optimize=True, progressive=True)
        return buffer.getvalue()

    def png(self) -> bytes:
        """The image, encoded without loss."""
        buffer = io.BytesIO()
        self._image().save(buffer, "PNG")
        return buffer.getvalue()

    def _image(self) -> Image:
        from PIL import Image

        return Image.fromarray(self.pixels)


@dataclass(frozen=True)
class AttentionSlide:
    """The images of one slide, with the what is known about the slide and its patient."""

    facts: dict
    panels: list[Panel]


@dataclass(frozen=True)
class _Frame:
    """Background of a slide's images: `gray` (H, W), `mpp` in µm per pixel, `origin` (x, y) of its corner in µm.

    `empty` means that there is no thumbnail, so that only the tiles show where tissue is.
    """

    gray: NDArray[np.float64]
    mpp: float
    origin: NDArray[np.float64]
    empty: bool = False


def attention_slides(path: Path) -> list[AttentionSlide]:
    """Read `attention.npz` and draw the images of every slide; an empty list if the file is absent.

    Raises:
        InputError: The file is damaged.
    """
    if not path.is_file():
        return []
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
            facts = json.loads(str(arrays.get("meta", "[]")))
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read ({error}); run `dmml test` again") from None
    return [AttentionSlide(fact, _panels(arrays, index, fact)) for index, fact in enumerate(facts)]


def _panels(arrays: dict[str, NDArray], index: int, fact: dict) -> list[Panel]:
    maps = [(kind, m, s) for kind, m, s in _maps(arrays, index, fact) if len(arrays[f"position_{index}_{m}"])]
    if not maps:
        return []
    positions = {m: np.asarray(arrays[f"position_{index}_{m}"], float) for _, m, _ in maps}
    recorded_um = {str(m): float(um) for m, um in (fact.get("tile_um") or {}).items()}
    tile_um = {m: recorded_um.get(m) or _spacing(position) for m, position in positions.items()}
    low = np.min([position.min(0) - tile_um[m] for m, position in positions.items()], axis=0)
    high = np.max([position.max(0) + tile_um[m] for m, position in positions.items()], axis=0)
    frame, plain = _background(arrays.get(f"thumbnail_{index}"), fact.get("thumbnail_mpp"), low, high)
    panels = [] if plain is None else [Panel(f"attention_{index}_slide", "slide", "", plain)]
    for kind, m, subspace in maps:
        if kind == "contribution":
            values = np.asarray(arrays[f"contribution_{index}_{m}"], float)
            panels.append(_contribution(frame, f"contribution_{index}_{m}x", m, positions[m], values, tile_um[m]))
        else:
            weight = np.asarray(arrays[f"attention_{index}_{m}_{subspace}"], float)
            panels.append(_attention(frame, index, m, subspace, positions[m], weight, tile_um[m]))
    return panels


def _attention(
    frame: _Frame, index: int, magnification: str, subspace: str, position: NDArray, weight: NDArray, tile_um: float
) -> Panel:
    """Draw the map of a subspace's attention."""
    color = SUBSPACE_COLOR.get(subspace, VERMILLION)
    pixels, strongest = _overlay(frame, position, weight, tile_um, color)
    title = f"{'TME' if subspace == 'tme' else subspace}, {magnification}×"
    caption = f"full colour: {strongest:.1f} × the average tile of the slide" if strongest else "no attention"
    return Panel(f"attention_{index}_{magnification}x_{subspace}", title, caption, pixels)


def _maps(arrays: dict[str, NDArray], index: int, fact: dict) -> list[tuple[str, str, str]]:
    """List a slide's maps as (kind, magnification, subspace); no attention maps if the deep part has no share."""
    prefix = f"contribution_{index}_"
    values = sorted((name.removeprefix(prefix) for name in arrays if name.startswith(prefix)), key=int)
    maps = [("contribution", m, "") for m in values]
    if fact.get("deep_share") == 0:
        return maps
    prefix = f"attention_{index}_"
    names = (name.removeprefix(prefix).split("_", 1) for name in arrays if name.startswith(prefix))
    attention = sorted(names, key=lambda key: (int(key[0]), key[1] != "tumor"))
    return maps + [("attention", m, s) for m, s in attention]


def _contribution(
    frame: _Frame, name: str, magnification: str, position: NDArray, values: NDArray, tile_um: float
) -> Panel:
    """Draw the map of each tile's contribution to the prediction."""
    end = float(np.quantile(np.abs(values), STRONGEST)) or float(np.abs(values).max(initial=0))
    opacity = 0.8 * np.clip(np.abs(values) / end, 0, 1) if end else np.zeros(len(values))
    colors = [_RAISES if value > 0 else _LOWERS for value in values]
    caption = (
        f"full colour: ± {end:.1g} per tile; all tiles of the slide together: {signed(values.sum())}"
        if end
        else "no tile contributes"
    )
    return Panel(
        name, f"contribution of each tile, {magnification}×", caption, _paint(frame, position, opacity, tile_um, colors)
    )


def _background(
    thumbnail: NDArray | None, mpp: float | None, low: NDArray, high: NDArray
) -> tuple[_Frame, NDArray[np.uint8] | None]:
    """Cut out the part of the slide that has tiles, as a grey background and in colour (None without a thumbnail)."""
    from PIL import Image

    if thumbnail is None or not mpp:
        scale = float((high - low).max()) / LONG_SIDE
        width, height = np.maximum(np.ceil((high - low) / scale).astype(int), 1)
        return _Frame(np.full((height, width), float(_PAPER)), scale, low, empty=True), None
    left, top = np.maximum(np.floor(low / mpp), 0).astype(int)
    right, bottom = np.ceil(high / mpp).astype(int)
    cut = np.ascontiguousarray(thumbnail[top:bottom, left:right, :3]).astype(np.uint8)
    if not cut.size:  # positions and thumbnail do not belong together
        return _background(None, None, low, high)
    scale = LONG_SIDE / max(cut.shape[:2])
    size = (max(1, round(cut.shape[1] * scale)), max(1, round(cut.shape[0] * scale)))
    image = Image.fromarray(cut).resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)
    gray = 0.45 * np.asarray(image.convert("L"), float) + 0.55 * 255
    return _Frame(gray, mpp / scale, np.array([left, top]) * mpp), np.asarray(image)


def _overlay(
    frame: _Frame, position: NDArray, weight: NDArray, tile_um: float, color: str
) -> tuple[NDArray[np.uint8], float]:
    """Paint each tile over the background; the stronger its attention, the fuller its colour.

    Returns:
        (H, W, 3) pixels, and the attention of the full colour in multiples of the average tile's attention.
    """
    share = weight * len(weight) / weight.sum() if weight.sum() > 0 else np.zeros(len(weight))
    strongest = float(np.quantile(share, STRONGEST)) or float(share.max())
    strongest = max(strongest, MIN_RANGE) if strongest else 0.0
    opacity = 0.8 * np.clip(share / strongest, 0, 1) if strongest else share
    return _paint(frame, position, opacity, tile_um, [color] * len(position)), strongest


def _paint(
    frame: _Frame, position: NDArray, opacity: NDArray, tile_um: float, colors: Sequence[str]
) -> NDArray[np.uint8]:
    """Paint each tile in its colour and opacity over the background, (H, W, 3)."""
    corner = (position - tile_um / 2 - frame.origin) / frame.mpp
    first = np.round(corner).astype(int).clip(0)
    last = np.maximum(np.round(corner + tile_um / frame.mpp).astype(int), first + 1)
    alpha, gray = np.zeros(frame.gray.shape), frame.gray.copy()
    paint = np.zeros((*frame.gray.shape, 3))
    for (x0, y0), (x1, y1), value, color in zip(first, last, opacity, colors, strict=True):
        alpha[y0:y1, x0:x1] = value
        paint[y0:y1, x0:x1] = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        if frame.empty:
            gray[y0:y1, x0:x1] = _TILE
    return ((1 - alpha[..., None]) * gray[..., None] + alpha[..., None] * paint).round().astype(np.uint8)


def _spacing(position: NDArray) -> float:
    """Estimate the side of a tile in µm by the smallest step between tile centres, for files that do not give it."""
    steps = np.concatenate([np.diff(np.unique(position[:, axis])) for axis in (0, 1)])
    return float(steps[steps > 1].min()) if (steps > 1).any() else 224.0
