"""Paints one number, or one group, per tile onto the picture of a slide."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from dmml.errors import InputError

_MIN_SIDE = 512
_BAR, _MARGIN = 14, 10
_INK, _BORDER = (40, 40, 40), (150, 150, 150)


def overlay(
    thumbnail: np.ndarray,
    thumbnail_mpp: float,
    position: np.ndarray,
    weight: np.ndarray,
    tile_um: float,
    cmap: str = "viridis",
    strength: float = 0.6,
    title: str = "",
    limits: tuple[float, float] | None = None,
) -> Image.Image:
    """Draw a heat map of tiles over a slide, with a colour bar below.

    Tissue outside the tiles is shown in grey; tissue under them keeps its light and dark. Weights are coloured
    linearly between `limits`.

    Args:
        thumbnail: (H, W, 3) uint8.
        thumbnail_mpp: µm per pixel of the thumbnail.
        position: (N, 2) µm, centres of the tiles from the slide's origin.
        weight: (N,) one number per tile, in any unit.
        tile_um: Side of a tile, µm.
        cmap: Name of a matplotlib colour map; the default is perceptual and safe for colour-blind readers.
        strength: Share of the colour in a tile, 0–1; the rest is tissue.
        title: Line above the picture.
        limits: Weights at the two ends of the colours; None means the 1st and 99th percentile. If the ends have
            opposite signs, as in (−a, a), 0 is the middle, and tiles far from 0 are more opaque; otherwise those of
            high weight are.

    Returns:
        RGB picture whose long side is at least 512 px.
    """
    weight = np.asarray(weight, np.float64)
    position = np.asarray(position, np.float64)
    _check_positions(position, len(weight), "weights")
    if not np.isfinite(weight).all():
        raise InputError("a heat map needs finite weights; check the model's output for NaN")
    from matplotlib import colormaps

    colours = (colormaps[cmap](np.linspace(0, 1, 256))[:, :3] * 255).astype(np.float32)
    low, high = limits or (tuple(np.percentile(weight, [1, 99])) if len(weight) else (0.0, 1.0))
    grey, factor = _enlarged_grey(thumbnail)
    span = high - low
    scaled = np.clip((weight - low) / span, 0, 1) if span > 0 else np.full(len(weight), 0.5)
    # Weak weights are more transparent: the eye goes to the strong ones, and tissue remains visible under the others.
    emphasis = np.abs(2 * scaled - 1) if low < 0 < high else scaled
    opacity = strength * (0.55 + 0.45 * emphasis)
    tile_colours = colours[np.rint(scaled * 255).astype(int)]
    picture = _painted(grey, thumbnail_mpp / factor, position, tile_um, tile_colours, opacity)
    return _with_colour_bar(picture, colours, low, high, title)


def overlay_groups(
    thumbnail: np.ndarray,
    thumbnail_mpp: float,
    position: np.ndarray,
    group: np.ndarray,
    tile_um: float,
    groups: Sequence[tuple[str, str]],
    strength: float = 0.6,
    title: str = "",
) -> Image.Image:
    """Draw which group each tile belongs to over a slide, with a legend below.

    Tissue outside the tiles, and under tiles of no group, is shown in grey; tissue under the others keeps its light and
    dark.

    Args:
        thumbnail: (H, W, 3) uint8.
        thumbnail_mpp: µm per pixel of the thumbnail.
        position: (N, 2) µm, centres of the tiles from the slide's origin.
        group: (N,) integers, index into `groups`; −1 = no group.
        tile_um: Side of a tile, µm.
        groups: (name, colour as #rrggbb) of every group, in the order of the legend.
        strength: Share of the colour in a tile, 0–1; the rest is tissue.
        title: Line above the picture.

    Returns:
        RGB picture whose long side is at least 512 px.
    """
    group, position = np.asarray(group), np.asarray(position, np.float64)
    _check_positions(position, len(group), "groups")
    if len(group) and not -1 <= group.min() <= group.max() < len(groups):
        raise ValueError(f"group {group.max()} of {len(groups)} groups, which are numbered from 0; -1 = none")
    colours = np.array([ImageColor.getrgb(colour) for _, colour in groups], np.float32)
    grey, factor = _enlarged_grey(thumbnail)
    in_group = group >= 0
    picture = _painted(
        grey,
        thumbnail_mpp / factor,
        position[in_group],
        tile_um,
        colours[group[in_group]],
        np.full(int(in_group.sum()), strength),
    )
    return _with_legend(picture, groups, title)


def _check_positions(position: np.ndarray, n: int, what: str) -> None:
    if position.shape != (n, 2):
        raise ValueError(f"{n} {what} do not fit positions of shape {position.shape}")


def _enlarged_grey(thumbnail: np.ndarray) -> tuple[np.ndarray, int]:
    """Return a thumbnail in grey, (H, W, 1) float32, enlarged to the smallest side of a map, and the enlargement."""
    factor = max(1, -(-_MIN_SIDE // max(thumbnail.shape[:2])))
    height, width = (side * factor for side in thumbnail.shape[:2])
    base = Image.fromarray(thumbnail).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(base.convert("L"), np.float32)[..., None], factor


def _painted(
    grey: np.ndarray, mpp: float, position: np.ndarray, tile_um: float, colours: np.ndarray, opacity: np.ndarray
) -> Image.Image:
    """Paint tiles onto a grey picture.

    Args:
        grey: (H, W, 1) float32, 0–255.
        mpp: µm per pixel of the picture.
        position: (N, 2) centres of the tiles, µm.
        tile_um: Side of a tile, µm.
        colours: (N, 3) float32, 0–255.
        opacity: (N,) share of the colour, 0–1.
    """
    picture = np.repeat(0.35 * 255 + 0.65 * grey, 3, axis=2)
    for (x, y), colour, alpha in zip(position, colours, opacity, strict=True):
        left, top, right, bottom = (
            round((v + sign * tile_um / 2) / mpp) for sign, v in ((-1, x), (-1, y), (1, x), (1, y))
        )
        square = (slice(max(top, 0), max(bottom, 0)), slice(max(left, 0), max(right, 0)))
        picture[square] = alpha * colour + (1 - alpha) * grey[square] * (0.6 + colour / 637.5)
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def _with_colour_bar(body: Image.Image, colours: np.ndarray, low: float, high: float, title: str) -> Image.Image:
    """Add the title above and the colour bar with its two ends below."""
    page, draw, top = _framed(body, title, _BAR + 2 * _MARGIN + 18)
    length = min(240, page.width - 2 * _MARGIN)
    left = (page.width - length) // 2
    bar = Image.fromarray(np.repeat(colours[None].astype(np.uint8), _BAR, axis=0))
    page.paste(bar.resize((length, _BAR)), (left, top))
    draw.rectangle((left - 1, top - 1, left + length, top + _BAR), outline=_BORDER)
    draw.text((left, top + _BAR + 3), f"{low:.3g}", fill=_INK, font=_font(), anchor="la")
    draw.text((left + length, top + _BAR + 3), f"{high:.3g}", fill=_INK, font=_font(), anchor="ra")
    return page


def _with_legend(body: Image.Image, groups: Sequence[tuple[str, str]], title: str) -> Image.Image:
    """Add the title above and, below, a square of each group's colour with its name; on several lines if need be."""
    gap = 2 * _MARGIN
    widths = [_BAR + 6 + round(_font().getlength(name)) for name, _ in groups]
    lines: list[list[int]] = [[]]
    for i, width in enumerate(widths):
        if lines[-1] and sum(widths[j] + gap for j in lines[-1]) + width > body.width - 2 * _MARGIN:
            lines.append([])
        lines[-1].append(i)
    page, draw, top = _framed(body, title, 2 * _MARGIN + len(lines) * (_BAR + 6))
    for row, line in enumerate(lines):
        x = (page.width - sum(widths[i] for i in line) - gap * (len(line) - 1)) // 2
        y = top + row * (_BAR + 6)
        for i in line:
            draw.rectangle((x, y, x + _BAR - 1, y + _BAR - 1), fill=groups[i][1], outline=_BORDER)
            draw.text((x + _BAR + 6, y + _BAR / 2), groups[i][0], fill=_INK, font=_font(), anchor="lm")
            x += widths[i] + gap
    return page


def _framed(body: Image.Image, title: str, below: int) -> tuple[Image.Image, ImageDraw.ImageDraw, int]:
    """Return a white page with the title above the picture, a way to draw on it, and the row where the space below begins."""
    above = 24 if title else 0
    page = Image.new("RGB", (max(body.width, 260), body.height + above + below), "white")
    page.paste(body, ((page.width - body.width) // 2, above))
    draw = ImageDraw.Draw(page)
    if title:
        draw.text((page.width / 2, 5), title, fill=_INK, font=_font(), anchor="ma")
    return page, draw, above + body.height + _MARGIN


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(13)
