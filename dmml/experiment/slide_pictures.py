"""Pictures of the answer on a slide: where each subspace looks, the survival curve, the classes."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dmml.evaluation.plots import BLUE, INK, MUTED, VERMILLION, Picture, horizon_name, new_figure, style, time_axis
from dmml.experiment.slide_answer import Answer
from dmml.slides.grid import tile_um
from dmml.slides.overlay import overlay
from dmml.types import SUBSPACES, Batch, SubspaceOutput

if TYPE_CHECKING:
    from PIL.Image import Image

STRONGEST = 99
"""Percentile of the tiles' attention that gets the last colour"""
LEAST_RANGE = 2.0
"""The colours reach at least to twice the average tile, so that even attention looks even"""
_NAMES = {"tumor": "tumor", "tme": "TME"}
_DASHES = ((0, (5, 2)), (0, (1.5, 1.5)))


@dataclass(frozen=True)
class SlidePicture:
    """What was seen of a slide: its name, thumbnail (H, W, 3) uint8 and the thumbnail's µm per pixel."""

    slide_id: str
    thumbnail: NDArray[np.uint8]
    mpp: float


@dataclass(frozen=True)
class AttentionMap:
    """One overlay: `name` of its file, `title`, and how many average tiles the last colour stands for."""

    name: str
    slide_id: str
    title: str
    strongest: float
    image: Image
    plain: Image
    """the same without its title"""

    def png(self) -> bytes:
        """The image without loss."""
        return encoded(self.image, "PNG")


def attention_maps(slides: list[SlidePicture], batch: Batch, output: SubspaceOutput) -> list[AttentionMap]:
    """An overlay for every slide, magnification and subspace.

    Attention is shown in multiples of the patient's average tile, so that slides with many tiles and with few read
    alike.

    Args:
        slides: In the order of `Bag.slide`.
        batch: B = 1.
        output: Of the model for the batch.
    """
    maps = []
    for index, slide in enumerate(slides):
        for m, bag in sorted(batch.bags.items()):
            real = bag.mask[0].numpy()
            own = real & (bag.slide[0].numpy() == index)
            for s in SUBSPACES if own.any() else ():
                share = output.attention[m, s][0].double().numpy() * real.sum()
                strongest = max(float(np.percentile(share[real], STRONGEST)), LEAST_RANGE)
                title = f"{_NAMES[s]}, {m}x: attention, average tile = 1"
                place = (bag.position[0].numpy()[own], share[own], tile_um(m))
                titled, plain = (
                    overlay(slide.thumbnail, slide.mpp, *place, title=words, limits=(0.0, strongest))
                    for words in (title, "")
                )
                name = f"overlay_{slide.slide_id}_{m}x_{s}" if len(slides) > 1 else f"overlay_{m}x_{s}"
                maps.append(AttentionMap(name, slide.slide_id, f"{_NAMES[s]}, {m}×", strongest, titled, plain))
    return maps


def outcome_picture(answer: Answer) -> Picture | None:
    """The survival curve or the classes' probabilities; None for tasks that are neither."""
    if answer.curve is not None:
        return _survival(answer)
    if answer.kind == "classification":
        return _classes(answer)
    return None


def _survival(answer: Answer) -> Picture:
    days, together, views = answer.curve
    unit, unit_name = time_axis(days[-1])
    time = np.array(days) / unit
    day = answer.headline.day
    with style():
        figure, axes = new_figure(height=3.3)
        if len(views) > 1:
            for (m, line), dash in zip(sorted(views.items()), _DASHES, strict=False):
                axes.plot(time, line, color=MUTED, linewidth=1.2, linestyle=dash, label=f"{m}× alone")
        axes.plot(time, together, color=INK, linewidth=2.2, label="the answer")
        axes.plot([day / unit], [answer.value], "o", color=VERMILLION, markersize=6, zorder=3)
        label = f"{100 * answer.value:.0f} % at {horizon_name(day)}"
        high = answer.value > 0.85
        offset, place = ((-6, -14), ("right", "top")) if high else ((8, 6), ("left", "bottom"))
        axes.annotate(
            label,
            (day / unit, answer.value),
            offset,
            textcoords="offset points",
            ha=place[0],
            va=place[1],
            color=VERMILLION,
        )
        axes.set(ylim=(0, 1.02), xlim=(0, time[-1]), xlabel=unit_name, ylabel="chance of being event-free")
        if len(views) > 1:
            axes.legend(loc="lower left")
    caption = "Predicted, not observed. The curve ends where the training patients' follow-up ended."
    alt = f"Predicted survival curve: {label}"
    return Picture("survival", "Predicted survival", caption, alt, figure)


def _classes(answer: Answer) -> Picture:
    names = [name for name in answer.prediction if name.startswith("prob_")]
    values = [answer.prediction[name] for name in names]
    rows = np.arange(len(names))
    with style():
        figure, axes = new_figure(height=max(1.6, 0.45 * len(names) + 0.9))
        colors = [VERMILLION if name == answer.headline.column else BLUE for name in names]
        axes.barh(rows, values, height=0.55, color=colors, alpha=0.85)
        for row, value in zip(rows, values, strict=True):
            axes.text(min(value + 0.02, 0.93), row, f"{100 * value:.0f} %", va="center")
        if len(answer.by_magnification) > 1:
            for (m, view), marker in zip(sorted(answer.by_magnification.items()), ("o", "D"), strict=False):
                points = [view[name] for name in names]
                axes.plot(points, rows + 0.36, marker, color=MUTED, markersize=4, label=f"{m}× alone")
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=2)
        axes.set(xlim=(0, 1), xlabel="probability", yticks=rows)
        axes.set_yticklabels([name.removeprefix("prob_") for name in names])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
    alt = ", ".join(f"{name.removeprefix('prob_')} {value:.2f}" for name, value in zip(names, values, strict=True))
    return Picture("classes", "Predicted classes", "Predicted, not observed.", f"Probabilities: {alt}", figure)


def save_png(picture: Picture, folder: Path) -> None:
    """Write `<name>.png` on white."""
    with style():
        picture.figure.savefig(folder / f"{picture.name}.png", dpi=160, facecolor="white", metadata={"Software": None})


def encoded(image: Image, kind: str, **options: Any) -> bytes:
    """An image's file as bytes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
