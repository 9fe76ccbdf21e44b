"""Writes `qc.html`, a page that reveals a wrong tissue mask, an empty slide or a wrong scale before training."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from dmml.html_pages import data_uri, render_page
from dmml.slides.failures import Failure, write_text
from dmml.slides.qc.pictures import mask_picture, outlined
from dmml.slides.stains.colour_map import ColourMap
from dmml.slides.stains.stains import Stains
from dmml.slides.wsi.mpp import FROM_MANIFEST, FROM_OPTION
from dmml.store.encoder_identity import STAINS, describe_stains

if TYPE_CHECKING:
    from dmml.store import FeatureStore

MAX_CARDS = 400
"""Maximum number of pictured slides; beyond it, those with fewest and most tiles, where masks go wrong, and odd ones"""
_MAX_ENLARGEMENT = 1.02
"""How many times larger a slide's pixels may be than its tiles' before that is odd; 0.5 µm/px scanners reach 0.504"""
_PICTURE_PX = 300
_TEMPLATE = Path(__file__).with_name("page.html")


@dataclass(frozen=True)
class Card:
    """What the page shows of a slide."""

    slide: str
    details: list[str]
    """Lines on its tiles, scale and tissue"""
    oddities: list[str]
    """What is odd about it, one line each"""
    has_few_tiles: bool
    pictures: list[tuple[str, str]]
    """(title, data URI) of the slide, its tissue, and its normalised stains if any; empty if the store has no picture"""


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
    counts, oddities = _survey(store, fine)
    few = _few(counts)
    pictured = _pictured(counts, oddities)
    page = render_page(
        _TEMPLATE,
        name=Path(store.path).name,
        counts=counts,
        fine=fine,
        encoder=attributes["encoder"]["name"],
        n_features=store.n_features,
        stains=describe_stains(attributes["encoder"]) if attributes["encoder"].get(STAINS) else "",
        scales=", ".join(f"{m}x ({mpp:g} µm/px)" for m, mpp in sorted(attributes["magnifications"].items())),
        failures=[(f.file, f.state, f.reason.removeprefix(f"{f.file}: ")) for f in failures],
        cards=[_card(store, slide, fine, oddities[slide], counts[slide] < few) for slide in sorted(pictured)],
        not_pictured=sorted(
            (slide, reasons) for slide, reasons in oddities.items() if reasons and slide not in pictured
        ),
    )
    write_text(path, page)
    return path


def _survey(store: FeatureStore, fine: int) -> tuple[dict[str, int], dict[str, list[str]]]:
    """Collect {slide: number of its fine tiles} and {slide: what is odd about it}; no slide's attributes are kept."""
    finest = min(store.attributes["magnifications"].values())
    counts: dict[str, int] = {}
    oddities: dict[str, list[str]] = {}
    mpp: dict[str, float] = {}
    for slide, attributes, tiles in store.summaries([fine]):
        counts[slide], mpp[slide] = tiles[0], attributes.get("mpp", 0)
        oddities[slide] = _oddities_of_slide(attributes, finest)
    usual_mpp = Counter(round(value, 2) for value in mpp.values()).most_common(1)[0][0] if mpp else 0
    few = _few(counts)
    for slide, n in counts.items():
        if usual_mpp and mpp[slide] and round(mpp[slide], 2) != usual_mpp:
            oddities[slide].append(f"scanned at {mpp[slide]:.3g} µm/px, most others at {usual_mpp:g}")
        if n < few:
            oddities[slide].append(f"far fewer tiles than the others ({n})")
    return counts, oddities


def _few(counts: Mapping[str, int]) -> float:
    """Number of tiles below which a slide has far fewer than the others."""
    return float(np.percentile(list(counts.values()), 25)) / 4 if counts else 0.0


def _pictured(counts: Mapping[str, int], oddities: Mapping[str, list[str]]) -> set[str]:
    """Select all slides, or a quarter each with fewest and most tiles, and then those with most oddities."""
    if len(counts) <= MAX_CARDS:
        return set(counts)
    by_count = sorted(counts, key=lambda slide: counts[slide])
    selected = {*by_count[: MAX_CARDS // 4], *by_count[-(MAX_CARDS // 4) :]}
    rest = sorted(
        (slide for slide in counts if oddities[slide] and slide not in selected),
        key=lambda slide: -len(oddities[slide]),
    )
    return selected | set(rest[: MAX_CARDS - len(selected)])


def _card(store: FeatureStore, slide: str, fine: int, oddities: list[str], has_few_tiles: bool) -> Card:
    attributes = store.slide_attributes(slide)
    scales = store.attributes["magnifications"]
    counts = ", ".join(f"{store.n_tokens(slide, m)} at {m}x" for m in sorted(scales))
    details = [f"{counts} tiles", _scale_line(attributes)]
    if "tissue_mm2" in attributes:
        details.append(f"{attributes['tissue_mm2']:.2f} mm² of tissue")
    pictures = []
    thumbnail, bag = store.thumbnail(slide), store.read(slide, fine)
    if thumbnail is not None and bag is not None and "thumbnail_mpp" in attributes:
        side = scales[fine] * store.attributes["tile_px"]
        picture = outlined(thumbnail, attributes["thumbnail_mpp"], bag.position, side, _PICTURE_PX)
        pictures.append((slide, _jpeg(picture)))
        mask = store.picture(slide, "tissue")
        if mask is not None:
            pictures.append((f"tissue of {slide}", _jpeg(mask_picture(mask).resize(picture.size))))
        if (stains := attributes.get("stains")) and (choice := store.attributes["encoder"].get(STAINS)):
            colours = ColourMap(Stains.from_plain(stains), Stains.from_plain(choice["target_stains"]))
            normalised = Image.fromarray(colours(thumbnail)).resize(picture.size, Image.Resampling.LANCZOS)
            pictures.append((f"{slide}, stain-normalised", _jpeg(normalised)))
    return Card(slide, [line for line in details if line], oddities, has_few_tiles, pictures)


def _oddities_of_slide(attributes: Mapping[str, Any], finest: float) -> list[str]:
    """List what is odd about a slide by itself, one line each; `finest` is the µm per pixel of its finest tiles."""
    findings = attributes.get("findings", {})
    lines = list(attributes.get("notes", []))
    if attributes.get("tiles_unreadable"):
        lines.append(f"{attributes['tiles_unreadable']} tiles could not be decoded and are left out")
    if "unreadable" in findings:
        lines.append(
            f"{findings['unreadable']:.2f} mm² could not be decoded; it was treated as glass, so it has no tiles"
        )
    if "pen" in findings:
        lines.append(f"pen or black area, {findings['pen']:.2f} mm², left out")
    if "fold" in findings:
        lines.append(f"fold, {findings['fold']:.2f} mm², left out")
    if "border" in findings:
        lines.append("tissue reaches the edge of the scan")
    if attributes.get("mpp", 0) > _MAX_ENLARGEMENT * finest:
        lines.append(
            f"scanned at {attributes['mpp']:.3g} µm/px, coarser than its tiles of {finest:g}: these are enlarged "
            f"{attributes['mpp'] / finest:.2f} times"
        )
    if attributes.get("mpp_source") in (FROM_OPTION, FROM_MANIFEST):
        lines.append("µm per pixel were given by the user, not by the slide")
    return lines


def _scale_line(attributes: Mapping[str, Any]) -> str:
    if "mpp" not in attributes:
        return ""
    size = " × ".join(f"{side:,}" for side in attributes.get("dimensions", []))
    source = attributes.get("mpp_source", "source unknown")
    return f"{attributes['mpp']:.4g} µm/px ({source}){', ' + size + ' px' if size else ''}"


def _jpeg(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=72, optimize=True)
    return data_uri(buffer.getvalue(), "jpeg")
