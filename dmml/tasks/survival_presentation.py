"""How predicted survival is put into words and drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dmml.evaluation.report.formatting import horizon_name
from dmml.functional.survival import survival_at, survival_curve
from dmml.tasks.presentation import Columns, Curve, Headline, PatientAnswer, Presentation

if TYPE_CHECKING:
    from dmml.evaluation.plots.plot import Plot
    from dmml.tasks.survival import Survival

HEADLINE_DAY = 1095.0
"""Survival is stated at the last horizon up to this day (3 years)"""
CURVE_POINTS = 121
_DASHES = ((0, (5, 2)), (0, (1.5, 1.5)))


class SurvivalPresentation(Presentation):
    """Presents a risk and a survival curve.

    Args:
        task: The fitted task.
    """

    def __init__(self, task: Survival):
        self.task = task

    def headline(self, prediction: Columns, horizons: Sequence[float] | None = None) -> Headline:
        """Choose the chance of survival at the last horizon up to `HEADLINE_DAY`.

        If too few training patients reached any horizon, it is the middle one of the model's own days.
        """
        days = sorted(float(name.removeprefix("survival_")) for name in prediction if name.startswith("survival_"))
        evaluated = [day for day in horizons or [] if day in days and day <= HEADLINE_DAY]
        day = evaluated[-1] if evaluated else days[max(0, len(days) // 2 - 1)]
        name = f"Chance of being event-free after {horizon_name(day)}"
        return Headline(f"survival_{day:g}", name, is_probability=True, day=day)

    def outlook(self, answer: PatientAnswer, views: str) -> str:
        """State the chance of survival at the headline's day."""
        name = answer.headline.name
        text = f"{answer.headline.text(answer.value)} {name[0].lower()}{name[1:]}"
        return f"{text} ({views})" if views else text

    def tile_unit(self, headline: Headline) -> str:
        """See `Presentation`."""
        return "log-odds of the event within an interval; above 0 raises the risk"

    def tile_colours(self, headline: Headline) -> str:
        """See `Presentation`."""
        return "Red tiles raise the predicted risk, and blue tiles lower it"

    def tile_classes(self, headline: Headline) -> tuple[str, str]:
        """See `Presentation`."""
        return "raises the risk", "lowers the risk"

    def curve(self, logits: Tensor) -> Curve:
        """Return `CURVE_POINTS` points of the curve, from day 0 to the end of the last interval."""
        if self.task.edges is None or self.task.end is None:
            raise RuntimeError("Survival has no edges yet; only a fitted task can be presented")
        days = torch.linspace(0, self.task.end, CURVE_POINTS, dtype=torch.float64)
        edges = torch.tensor(self.task.edges, dtype=torch.float64)
        return days.tolist(), survival_at(survival_curve(logits), edges, self.task.end, days)[0].tolist()

    def plot(self, answer: PatientAnswer) -> Plot | None:
        """Draw the survival curve, with the headline's day, and dashed the curve of each magnification alone."""
        from dmml.evaluation.plots.plot import Plot
        from dmml.evaluation.plots.style import INK, MUTED, VERMILLION, new_figure, style, time_axis

        if answer.curve is None or answer.headline.day is None:
            return None
        days, survival = answer.curve
        unit, unit_name = time_axis(days[-1])
        day, value = answer.headline.day, answer.value
        time = np.array(days) / unit
        label = f"{100 * value:.0f} % at {horizon_name(day)}"
        (offset, horizontal, vertical) = ((-6, -14), "right", "top") if value > 0.85 else ((8, 6), "left", "bottom")
        with style():
            figure, axes = new_figure(height=3.3)
            for (m, (_, line)), dash in zip(sorted(answer.view_curves.items()), _DASHES, strict=False):
                axes.plot(time, line, color=MUTED, linewidth=1.2, linestyle=dash, label=f"{m}× alone")
            axes.plot(time, survival, color=INK, linewidth=2.2, label="the answer")
            axes.plot([day / unit], [value], "o", color=VERMILLION, markersize=6, zorder=3)
            axes.annotate(
                label,
                (day / unit, value),
                offset,
                textcoords="offset points",
                ha=horizontal,
                va=vertical,
                color=VERMILLION,
            )
            axes.set(ylim=(0, 1.02), xlim=(0, time[-1]), xlabel=unit_name, ylabel="chance of being event-free")
            if answer.view_curves:
                axes.legend(loc="lower left")
        caption = "Predicted, not observed. The curve ends where the training patients' follow-up ended."
        return Plot("survival", "Predicted survival", figure, caption, f"Predicted survival curve: {label}")
