"""How the prediction for one patient is put into words and plots, as `dmml predict-slide` writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from dmml.evaluation.report.formatting import in_unit, number, percent

if TYPE_CHECKING:
    from dmml.evaluation.plots.plot import Plot

Columns = Mapping[str, float]
"""{column of `predictions.csv`: value} of one patient"""
Curve = tuple[list[float], list[float]]
"""Days, and the chance of being event-free on each of them"""


@dataclass(frozen=True)
class Headline:
    """The number that stands for a prediction: a column of `predictions.csv`.

    Attributes:
        column: Name of the column.
        name: The same in words: "Chance of being event-free after 3 years".
        is_probability: Whether it is written as a percentage.
        day: Day of a chance of survival; None for other tasks.
        label: Name of a class; None for other tasks.
        unit: Unit of a measured value; None for other tasks.
    """

    column: str
    name: str = ""
    is_probability: bool = False
    day: float | None = None
    label: str | None = None
    unit: str | None = None

    def text(self, value: float) -> str:
        """Format a value of the column."""
        if self.unit is not None:
            return in_unit(value, self.unit)
        return percent(value) if self.is_probability else number(value, 3)


class PatientAnswer(Protocol):
    """What a presentation reads of an answer; see `dmml.experiment.predict_slide.answer.Answer`."""

    @property
    def prediction(self) -> Columns:
        """The whole prediction."""

    @property
    def views(self) -> Mapping[int, Columns]:
        """{magnification: prediction from it alone}; empty if the model has no separate views."""

    @property
    def headline(self) -> Headline:
        """The number that stands for the prediction."""

    @property
    def value(self) -> float:
        """The headline's value in the whole prediction."""

    @property
    def median_risk(self) -> float | None:
        """Median risk of the training patients; None if there is none."""

    @property
    def curve(self) -> Curve | None:
        """Survival curve of the whole prediction."""

    @property
    def view_curves(self) -> Mapping[int, Curve]:
        """{magnification: survival curve from it alone}."""


class Presentation:
    """Presents the prediction of any task by its columns; a task with more to say returns a subclass.

    Attributes:
        agreement: Sentence for views that are on one side; see `side`.
    """

    agreement = "Each magnification alone leads to the same side of the median risk."

    def headline(self, prediction: Columns, horizons: Sequence[float] | None = None) -> Headline:
        """Choose the number that stands for a prediction; by default its first column.

        Args:
            prediction: Columns of one patient.
            horizons: Days at which the model's training cohort allows an evaluation; None if there are none.
        """
        first = next(iter(prediction))
        return Headline(first, name=first)

    def summary(self, answer: PatientAnswer, training_patients: str) -> str:
        """State the answer in one line, without a full stop.

        Args:
            answer: The answer.
            training_patients: "the 80 training patients of luad".
        """
        if "risk" not in answer.prediction:
            return f"{answer.headline.name}: {answer.headline.text(answer.value)}"
        side = self.side(answer.prediction, answer.median_risk)
        if not side:
            risk = number(answer.prediction["risk"])
            return f"Risk {risk}; the checkpoint does not record the median risk of its training patients"
        return f"{side[0].upper()}{side[1:]} of {training_patients}"

    def outlook(self, answer: PatientAnswer, views: str) -> str:
        """State what the answer means, in a sentence without a full stop.

        Args:
            answer: The answer.
            views: The headline's value at each magnification; empty without separate views.
        """
        return ", ".join(f"{name} {number(value, 3)}" for name, value in answer.prediction.items())

    def side(self, view: Columns, median_risk: float | None) -> str:
        """Name the side of the answer that a view is on, by which views may disagree; empty if there are no sides."""
        if median_risk is None or "risk" not in view:
            return ""
        return f"{'above' if view['risk'] > median_risk else 'below'} the median risk"

    def tile_unit(self, headline: Headline) -> str:
        """Name the unit of what a tile contributes."""
        return "units of the model's mean output"

    def tile_colours(self, headline: Headline) -> str:
        """Say what red and blue tiles do, in a main clause without a full stop."""
        return "Red tiles raise the answer, and blue tiles lower it"

    def tile_classes(self, headline: Headline) -> tuple[str, str]:
        """Name what tiles do that add much to the answer, and what those do that take much from it."""
        return "raises the answer", "lowers the answer"

    def curve(self, logits: Tensor) -> Curve | None:
        """Return the survival curve of a patient's logits (1, C); None for other tasks."""
        return None

    def plot(self, answer: PatientAnswer) -> Plot | None:
        """Draw the answer; None if there is nothing to draw."""
        return None
