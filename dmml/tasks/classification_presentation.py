"""How predicted classes are put into words and drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dmml.evaluation.report.formatting import percent
from dmml.tasks.presentation import Columns, Headline, PatientAnswer, Presentation

if TYPE_CHECKING:
    from dmml.evaluation.plots.plot import Plot

OTHER_CLASSES = 4
"""Maximum number of classes that are named after the most probable one"""


class ClassificationPresentation(Presentation):
    """Presents the probabilities of classes."""

    agreement = "Each magnification alone leads to the same class."

    def headline(self, prediction: Columns, horizons: Sequence[float] | None = None) -> Headline:
        """Choose the most probable class."""
        column = max((name for name in prediction if name.startswith("prob_")), key=prediction.__getitem__)
        label = column.removeprefix("prob_")
        return Headline(column, f"Probability of {label}", is_probability=True, label=label)

    def summary(self, answer: PatientAnswer, training_patients: str) -> str:
        """Name the most probable class and its probability."""
        return f"{answer.headline.label}, with a probability of {percent(answer.value)}"

    def outlook(self, answer: PatientAnswer, views: str) -> str:
        """Name the next classes, and the probability of the first one at each magnification."""
        rest = sorted(((v, k) for k, v in answer.prediction.items() if k != answer.headline.column), reverse=True)
        others = ", ".join(f"{name.removeprefix('prob_')} {percent(value)}" for value, name in rest[:OTHER_CLASSES])
        text = f"Next in order: {others}"
        return f"{text}. {answer.headline.label} by magnification: {views}" if views else text

    def side(self, view: Columns, median_risk: float | None) -> str:
        """Name the most probable class."""
        return max(view, key=view.__getitem__).removeprefix("prob_")

    def tile_unit(self, headline: Headline) -> str:
        """See `Presentation`."""
        return f"log-odds of {headline.label} against the mean of the other classes"

    def tile_colours(self, headline: Headline) -> str:
        """See `Presentation`."""
        return f"Red tiles speak for {headline.label}, and blue tiles against it"

    def tile_classes(self, headline: Headline) -> tuple[str, str]:
        """See `Presentation`."""
        return f"for {headline.label}", f"against {headline.label}"

    def plot(self, answer: PatientAnswer) -> Plot | None:
        """Draw a bar for each class, and a mark for each magnification alone."""
        from dmml.evaluation.plots.plot import Plot
        from dmml.evaluation.plots.style import BLUE, MUTED, VERMILLION, new_figure, style

        names = [name for name in answer.prediction if name.startswith("prob_")]
        classes = [name.removeprefix("prob_") for name in names]
        values = [answer.prediction[name] for name in names]
        rows = np.arange(len(names))
        with style():
            figure, axes = new_figure(height=max(1.6, 0.45 * len(names) + 0.9))
            colors = [VERMILLION if name == answer.headline.column else BLUE for name in names]
            axes.barh(rows, values, height=0.55, color=colors, alpha=0.85)
            for row, value in enumerate(values):
                axes.text(min(value + 0.02, 0.93), row, f"{100 * value:.0f} %", va="center")
            if answer.views:
                for (m, view), marker in zip(sorted(answer.views.items()), ("o", "D"), strict=False):
                    points = [view[name] for name in names]
                    axes.plot(points, rows + 0.36, marker, color=MUTED, markersize=4, label=f"{m}× alone")
                axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=2)
            axes.set(xlim=(0, 1), xlabel="probability", yticks=rows)
            axes.set_yticklabels(classes)
            axes.invert_yaxis()
            axes.grid(axis="y", visible=False)
        alt = ", ".join(f"{name} {value:.2f}" for name, value in zip(classes, values, strict=True))
        return Plot("classes", "Predicted classes", figure, "Predicted, not observed.", f"Probabilities: {alt}")
