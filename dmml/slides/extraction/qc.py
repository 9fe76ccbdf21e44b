"""Writes `qc.html`, a page that reveals a wrong tissue mask, an empty slide or a wrong scale before training."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from dmml.slides.extraction.failures import Failure, write_text
from dmml.slides.wsi.mpp import GIVEN, LISTED

if TYPE_CHECKING:
    from dmml.store import FeatureStore

MOST_CARDS = 400
"""Maximum number of pictured slides; beyond it, those with fewest and most tiles, where masks go wrong, and odd ones"""
_COARSER = 1.02
"""How many times larger a slide's pixels may be than its tiles' before that is odd; 0.5 µm/px scanners reach 0.504"""
_CARD_PX = 300
_LINE = (0, 110, 90)
_TISSUE = (120, 170, 150)

_STYLE = """
:root{color-scheme:light}body{font:15px/1.45 system-ui,sans-serif;color:#222;background:#f6f6f4;margin:0 auto;
max-width:1240px;padding:28px 20px}h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;margin:32px 0 8px}
p.lead{margin:0 0 20px;color:#555}.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(320px,1fr));gap:16px}
.card{background:#fff;border:1px solid #e3e3df;border-radius:8px;padding:12px;display:flex;flex-direction:column}
.card .picture{height:200px;display:flex;gap:6px;align-items:center;justify-content:center;margin-bottom:10px}
.card img{max-width:49%;max-height:200px}.card img+img{outline:1px solid #e3e3df}.card em{color:#a4501a;font-style:normal;font-size:13px}.card b{overflow-wrap:anywhere}.card span{color:#555;font-size:13px}
.card.few{border-color:#c9702a}table{border-collapse:collapse;background:#fff;width:100%}td,th{text-align:left;
padding:6px 10px;border:1px solid #e3e3df;vertical-align:top;overflow-wrap:anywhere}table:not(.odd) td:nth-child(2){white-space:nowrap}th{background:#efefeb}
code{background:#efefeb;border-radius:4px;padding:1px 4px}
"""


def write_qc(store: FeatureStore, failures: Sequence[Failure], path: str) -> str:
    """Write the contact sheet of a store.

    Args:
        store: The store.
        failures: Files that were not extracted.
        path: Path or URL of the page.

    Returns:
        `path`.
    """
    attributes = store.attributes
    fine = max(attributes["magnifications"])
    counts = {slide: store.n_tokens(slide, fine) for slide in store.slides()}
    few = np.percentile(list(counts.values()), 25) / 4 if counts else 0
    odd = _what_is_odd(store, counts, few)
    shown = _pictured(counts, odd)
    cards = [_card(store, slide, fine, odd[slide], counts[slide] < few) for slide in sorted(shown)]
    left_out = (
        ""
        if len(shown) == len(counts)
        else f" Pictured are {len(shown)} slides: those with the fewest tiles, those with the most, and odd ones; "
        f"{len(counts) - len(shown)} others are not, of which the odd ones are listed below."
    )
    scales = ", ".join(f"{m}x ({mpp:g} µm/px)" for m, mpp in sorted(attributes["magnifications"].items()))
    lead = (
        f"{len(counts)} slides, {sum(counts.values()):,} tiles at {fine}x, {len(failures)} files not extracted. "
        f"Encoder <code>{escape(attributes['encoder']['name'])}</code>, {store.n_features} features; {scales}. "
        f"Left: the slide, with a line around the tiles that were kept. Right: what was taken for tissue. What is odd about "
        f"a slide stands in orange; slides with far fewer tiles than the others have an orange frame.{left_out}"
    )
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Slides of {escape(Path(store.path).name)}</title><style>{_STYLE}</style></head><body>"
        f'<h1>Slides of {escape(Path(store.path).name)}</h1><p class="lead">{lead}</p>'
        f'{_failure_table(failures)}<h2>Extracted</h2><div class="cards">{"".join(cards)}</div>'
        f"{_odd_table({slide: odd[slide] for slide in odd if odd[slide] and slide not in shown})}</body></html>\n"
    )
    write_text(path, page)
    return path


def outlined(thumbnail: np.ndarray, mpp: float, position: np.ndarray, tile_um: float, longest: int) -> Image.Image:
    """Draw the slide with a line around the tiles that were kept.

    Args:
        thumbnail: (H, W, 3) uint8.
        mpp: µm per pixel of the thumbnail.
        position: (N, 2) µm, centres of the tiles.
        tile_um: Side of a tile, µm.
        longest: Maximum long side of the result, px.
    """
    picture = Image.fromarray(thumbnail)
    scale = min(1.0, longest / max(picture.size))
    size = tuple(max(1, round(side * scale)) for side in picture.size)
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(picture)
    cells = {(round(x / tile_um - 0.5), round(y / tile_um - 0.5)) for x, y in position.tolist()}
    step = tile_um / mpp * scale
    for x, y in cells:
        left, top, right, bottom = x * step, y * step, (x + 1) * step, (y + 1) * step
        for neighbour, line in (
            ((x - 1, y), (left, top, left, bottom)),
            ((x + 1, y), (right, top, right, bottom)),
            ((x, y - 1), (left, top, right, top)),
            ((x, y + 1), (left, bottom, right, bottom)),
        ):
            if neighbour not in cells:
                draw.line(line, fill=_LINE, width=2)
    return picture


def _what_is_odd(store: FeatureStore, counts: dict[str, int], few: float) -> dict[str, list[str]]:
    """Collect {slide: reasons} for all slides; below `few` tiles, a slide has far fewer than the others."""
    known = {slide: store.slide_attributes(slide) for slide in counts}
    usual = Counter(round(its.get("mpp", 0), 2) for its in known.values()).most_common(1)
    finest = min(store.attributes["magnifications"].values())
    odd = {slide: _odd(its, usual[0][0], finest) for slide, its in known.items()}
    for slide, n in counts.items():
        if n < few:
            odd[slide].append(f"far fewer tiles than the others ({n})")
    return odd


def _pictured(counts: dict[str, int], odd: dict[str, list[str]]) -> set[str]:
    """Select all slides, or a quarter each with fewest and most tiles, and then those with most oddities."""
    if len(counts) <= MOST_CARDS:
        return set(counts)
    order = sorted(counts, key=lambda slide: counts[slide])
    shown = {*order[: MOST_CARDS // 4], *order[-(MOST_CARDS // 4) :]}
    rest = sorted((slide for slide in counts if odd[slide] and slide not in shown), key=lambda slide: -len(odd[slide]))
    return shown | set(rest[: MOST_CARDS - len(shown)])


def _card(store: FeatureStore, slide: str, fine: int, odd: list[str], few: bool) -> str:
    known = store.slide_attributes(slide)
    scales = store.attributes["magnifications"]
    counts = ", ".join(f"{store.n_tokens(slide, m)} at {m}x" for m in sorted(scales))
    lines = [f"{counts} tiles", _scale_line(known)]
    if "tissue_mm2" in known:
        lines.append(f"{known['tissue_mm2']:.2f} mm² of tissue")
    thumbnail, pictures = store.thumbnail(slide), "<span>no picture</span>"
    if thumbnail is not None and "thumbnail_mpp" in known:
        bag = store.read(slide, fine)
        side = scales[fine] * store.attributes["tile_px"]
        picture = outlined(thumbnail, known["thumbnail_mpp"], bag.position, side, _CARD_PX)
        pictures = _image(slide, picture)
        mask = store.picture(slide, "tissue")
        if mask is not None:
            pictures += _image(f"tissue of {slide}", mask_picture(mask).resize(picture.size))
    details = "<br>".join(escape(line) for line in lines if line)
    reasons = "".join(f"<em>{escape(reason)}</em>" for reason in odd)
    return (
        f'<div class="card{" few" if few else ""}"><div class="picture">{pictures}</div>'
        f"<b>{escape(slide)}</b><span>{details}</span>{reasons}</div>"
    )


def _odd(known: dict[str, Any], usual_mpp: float, finest: float) -> list[str]:
    """List what is odd about a slide, one line each; `finest` is the µm per pixel of its finest tiles."""
    found = known.get("findings", {})
    lines = list(known.get("notes", []))
    if known.get("tiles_unreadable"):
        lines.append(f"{known['tiles_unreadable']} tiles could not be decoded and are left out")
    if "unreadable" in found:
        lines.append(f"{found['unreadable']:.2f} mm² could not be decoded: taken for glass, no tiles there")
    if "pen" in found:
        lines.append(f"pen or black area, {found['pen']:.2f} mm², left out")
    if "fold" in found:
        lines.append(f"fold, {found['fold']:.2f} mm², left out")
    if "border" in found:
        lines.append("tissue reaches the edge of the scan")
    if usual_mpp and "mpp" in known and round(known["mpp"], 2) != usual_mpp:
        lines.append(f"scanned at {known['mpp']:.3g} µm/px, most others at {usual_mpp:g}")
    if known.get("mpp", 0) > _COARSER * finest:
        lines.append(
            f"scanned at {known['mpp']:.3g} µm/px, coarser than its tiles of {finest:g}: these are enlarged "
            f"{known['mpp'] / finest:.2f} times"
        )
    if known.get("mpp_source") in (GIVEN, LISTED):
        lines.append("µm per pixel were given by the user, not by the slide")
    return lines


def mask_picture(mask: np.ndarray) -> Image.Image:
    """Draw tissue in green on white; (H, W) uint8, 255 = tissue."""
    share = mask.astype(np.float32)[..., None] / 255
    colours = 255 - share * (255 - np.array(_TISSUE, np.float32))
    return Image.fromarray(colours.round().astype(np.uint8))


def _image(title: str, picture: Image.Image) -> str:
    return f'<img alt="{escape(title)}" title="{escape(title)}" src="{_data_uri(picture)}">'


def _scale_line(known: dict[str, Any]) -> str:
    if "mpp" not in known:
        return ""
    size = " × ".join(f"{side:,}" for side in known.get("dimensions", []))
    return (
        f"{known['mpp']:.4g} µm/px ({known.get('mpp_source', 'source unknown')}){', ' + size + ' px' if size else ''}"
    )


def _failure_table(failures: Sequence[Failure]) -> str:
    if not failures:
        return ""
    rows = "".join(
        f"<tr><td>{escape(f.file)}</td><td>{escape(f.state)}</td>"
        f"<td>{escape(f.reason.removeprefix(f'{f.file}: '))}</td></tr>"
        for f in failures
    )
    return f"<h2>Not extracted</h2><table><tr><th>file</th><th>state</th><th>reason</th></tr>{rows}</table>"


def _odd_table(odd: dict[str, list[str]]) -> str:
    """Table of the odd slides that are not pictured."""
    if not odd:
        return ""
    rows = "".join(
        f"<tr><td>{escape(slide)}</td><td>{'<br>'.join(escape(reason) for reason in reasons)}</td></tr>"
        for slide, reasons in sorted(odd.items())
    )
    return f'<h2>Odd, not pictured</h2><table class="odd"><tr><th>slide</th><th>reasons</th></tr>{rows}</table>'


def _data_uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=72, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
