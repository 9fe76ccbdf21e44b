"""Pictures of the answer: the survival curve, or the probabilities of the classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.plots.style import BLUE, INK, MUTED, VERMILLION, new_figure, style, time_axis
from dmml.evaluation.report.formatting import horizon_name
from dmml.experiment.predict_slide.answer import Answer

_DASHES = ((0, (5, 2)), (0, (1.5, 1.5)))


def outcome_plot(answer: Answer) -> Plot | None:
    """Draw the survival curve or the classes' probabilities; None for other tasks."""
    if answer.curve is not None:
        return _survival(answer)
    if answer.kind == "classification":
        return _classes(answer)
    return None


def _survival(answer: Answer) -> Plot:
    days, together, curves = answer.curve
    views = {m: curve for m, curve in curves.items() if m in answer.views}
    unit, unit_name = time_axis(days[-1])
    time = np.array(days) / unit
    day = answer.headline.day
    with style():
        figure, axes = new_figure(height=3.3)
        if views:
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
        if views:
            axes.legend(loc="lower left")
    caption = "Predicted, not observed. The curve ends where the training patients' follow-up ended."
    alt = f"Predicted survival curve: {label}"
    return Plot("survival", "Predicted survival", figure, caption, alt)


def _classes(answer: Answer) -> Plot:
    names = [name for name in answer.prediction if name.startswith("prob_")]
    values = [answer.prediction[name] for name in names]
    rows = np.arange(len(names))
    with style():
        figure, axes = new_figure(height=max(1.6, 0.45 * len(names) + 0.9))
        colors = [VERMILLION if name == answer.headline.column else BLUE for name in names]
        axes.barh(rows, values, height=0.55, color=colors, alpha=0.85)
        for row, value in zip(rows, values, strict=True):
            axes.text(min(value + 0.02, 0.93), row, f"{100 * value:.0f} %", va="center")
        if answer.views:
            for (m, view), marker in zip(sorted(answer.views.items()), ("o", "D"), strict=False):
                points = [view[name] for name in names]
                axes.plot(points, rows + 0.36, marker, color=MUTED, markersize=4, label=f"{m}× alone")
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=2)
        axes.set(xlim=(0, 1), xlabel="probability", yticks=rows)
        axes.set_yticklabels([name.removeprefix("prob_") for name in names])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
    alt = ", ".join(f"{name.removeprefix('prob_')} {value:.2f}" for name, value in zip(names, values, strict=True))
    return Plot("classes", "Predicted classes", figure, "Predicted, not observed.", f"Probabilities: {alt}")


def save_png(picture: Plot, folder: Path) -> None:
    """Write `<name>.png` on a white background."""
    with style():
        picture.figure.savefig(folder / f"{picture.name}.png", dpi=160, facecolor="white", metadata={"Software": None})
