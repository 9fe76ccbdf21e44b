"""How a predicted value is put into words and drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dmml.evaluation.report.formatting import axis_label, in_unit
from dmml.evaluation.values.column import PREDICTED_VALUE
from dmml.tasks.presentation import Columns, Headline, PatientAnswer, Presentation

if TYPE_CHECKING:
    from dmml.evaluation.plots.plot import Plot
    from dmml.tasks.regression import Regression


class RegressionPresentation(Presentation):
    """Presents a value in its units, beside the mean of the training patients.

    Args:
        task: The fitted task.
    """

    agreement = "Each magnification alone leads to the same side of the training patients' mean."

    def __init__(self, task: Regression):
        self.task = task

    def headline(self, prediction: Columns, horizons: Sequence[float] | None = None) -> Headline:
        """Choose the predicted value."""
        return Headline(PREDICTED_VALUE, f"Predicted {self.task.name}", unit=self.task.unit)

    def summary(self, answer: PatientAnswer, training_patients: str) -> str:
        """State the value, and the mean of the training patients."""
        mean, sd = (in_unit(value, self.task.unit) for value in self.task.scale())
        value = answer.headline.text(answer.value)
        return f"{answer.headline.name}: {value} (mean of {training_patients}: {mean}, standard deviation {sd})"

    def outlook(self, answer: PatientAnswer, views: str) -> str:
        """State how far the value is from the training patients' mean."""
        mean, sd = self.task.scale()
        distance = (answer.value - mean) / sd
        side = "above" if distance >= 0 else "below"
        text = f"The value is {abs(distance):.1f} standard deviations {side} the training patients' mean"
        return f"{text} ({views})" if views else text

    def side(self, view: Columns, median_risk: float | None) -> str:
        """Name the side of the training patients' mean."""
        return f"{'above' if view[PREDICTED_VALUE] > self.task.scale()[0] else 'below'} the training patients' mean"

    def tile_unit(self, headline: Headline) -> str:
        """See `Presentation`."""
        return f"standard deviations of the training patients (1 is {in_unit(self.task.scale()[1], self.task.unit)})"

    def tile_colours(self, headline: Headline) -> str:
        """See `Presentation`."""
        return "Red tiles raise the predicted value, and blue tiles lower it"

    def tile_classes(self, headline: Headline) -> tuple[str, str]:
        """See `Presentation`."""
        return "raises the value", "lowers the value"

    def plot(self, answer: PatientAnswer) -> Plot | None:
        """Draw the value on an axis with the training patients' mean and spread, and a mark for each magnification."""
        from dmml.evaluation.plots.plot import Plot
        from dmml.evaluation.plots.style import BLUE, DASHED, MUTED, VERMILLION, new_figure, style

        (mean, sd), text = self.task.scale(), answer.headline.text(answer.value)
        with style():
            figure, axes = new_figure(height=1.7)
            for width, alpha in ((2, 0.12), (1, 0.2)):
                axes.axvspan(mean - width * sd, mean + width * sd, color=BLUE, alpha=alpha, linewidth=0)
            axes.axvline(mean, color=MUTED, linewidth=1, linestyle=DASHED)
            for (m, view), marker in zip(sorted(answer.views.items()), ("o", "D"), strict=False):
                axes.plot(view[PREDICTED_VALUE], 0, marker, color=MUTED, markersize=5, label=f"{m}× alone")
            axes.plot(answer.value, 0, "o", color=VERMILLION, markersize=8, label="the answer")
            axes.annotate(text, (answer.value, 0), (0, 9), textcoords="offset points", ha="center", color=VERMILLION)
            axes.set(yticks=[], ylim=(-1, 1), xlabel=axis_label(self.task.name, self.task.unit))
            axes.grid(axis="y", visible=False)
            if answer.views:
                figure.legend(loc="outside lower center", ncols=3)
        caption = (
            "Predicted, not measured. Dashed: the mean of the training patients; shaded: one and two of their standard "
            "deviations."
        )
        return Plot("value", answer.headline.name, figure, caption, f"{answer.headline.name}: {text}")
