"""Names and explanations of the inputs and outputs of an exported student. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dmml.evaluation.report.formatting import axis_label
from dmml.evaluation.values.column import PREDICTED_VALUE

SLIDES = "slides"
"""Input whose length is the patient's number of slides"""
INPUTS_PER_MAGNIFICATION = ("features", "position", "slide")
SUBSPACE_TEXT = {"tumor": "tumor", "tme": "tumor microenvironment"}


@dataclass(frozen=True)
class Described:
    """An input or output of the graph.

    Attributes:
        name: Its name in the graph.
        text: What it is, with shape and unit; written into the file as the documentation of the input or output.
        column: Whether it is a column of `predictions.csv`.
        magnification: Magnification to which it belongs; None for all.
        subspace: Subspace to which it belongs, or `tissue`; None for all.
    """

    name: str
    text: str
    column: bool = False
    magnification: int | None = None
    subspace: str | None = None


def describe_inputs(magnifications: Sequence[int], mpp: Mapping[int, float], n_features: int) -> list[Described]:
    """Describe the inputs in the order of the graph.

    Args:
        magnifications: Magnifications of the model, ascending.
        mpp: {magnification: µm per pixel}.
        n_features: D.
    """
    inputs = [
        Described(SLIDES, "(S,) int64: 0, 1, … S − 1; only its length is read, the number of slides of the patient")
    ]
    for m in magnifications:
        scale = f" ({mpp[m]:g} µm per pixel)" if m in mpp else ""
        inputs += [
            Described(
                f"features_{m}x",
                f"(N, {n_features}) float32: the encoder's features of the patient's N tiles at {m}x{scale}; N may be 0",
                magnification=m,
            ),
            Described(
                f"position_{m}x",
                "(N, 2) float32: centre of each tile as x, y in µm from the origin of its slide",
                magnification=m,
            ),
            Described(f"slide_{m}x", "(N,) int64: index of the slide of each tile, 0 to S − 1", magnification=m),
        ]
    return inputs


def describe_column(name: str) -> Described:
    """Describe a prediction, which is a column of `predictions.csv` with the same name."""
    if name == "risk":
        text = "() float64: risk score, minus the sum of the survival probabilities at the ends of the intervals; higher is worse"
    elif name.startswith("survival_"):
        text = f"() float64: probability of being event-free {name.removeprefix('survival_')} days after the start of follow-up"
    elif name.startswith("prob_"):
        text = f"() float64: probability of the class {name.removeprefix('prob_')}"
    elif name == PREDICTED_VALUE:
        text = "() float64: predicted value, in its units"
    else:
        text = "() float64: prediction of the model's task"
    return Described(name, text, column=True)


def describe_entries(task: Mapping[str, Any]) -> str:
    """Say what the entries of logits are, from `Task.context()`."""
    if task.get("classes"):
        return f"of the classes {', '.join(task['classes'])}"
    if task.get("edges") is not None and task.get("end") is not None:
        days = ", ".join(f"{day:g}" for day in (*task["edges"], task["end"]))
        return f"of the hazards of the intervals that end on the days {days}"
    if task.get("task") == "regression":
        return f"of the {value_in_words(task)}, in standard deviations ({task['sd']:g}) from the training patients' mean ({task['mean']:g})"
    return "of the model's task"


def value_in_words(task: Mapping[str, Any]) -> str:
    """Name the value of a regression with its unit, from `Task.context()`."""
    return axis_label(str(task["value_name"]), str(task.get("unit") or ""))


def describe_logits(name: str, entries: str, magnification: int | None = None, part: str | None = None) -> Described:
    """Describe logits (C,).

    Args:
        name: Name of the output.
        entries: What the C entries are; see `describe_entries`.
        magnification: Magnification of which they are; None = of all together.
        part: Part of the model that they come from; None = all parts.
    """
    if part == "backbone":
        return Described(
            name,
            f"(C,) float32: logits {entries}, from the linear backbone, which those of every magnification include",
        )
    of_part = {None: "", "tissue": ", part of the tissue that belongs to neither subspace"}.get(
        part, f", part of the {SUBSPACE_TEXT.get(part or '', part)} subspace"
    )
    where = "all magnifications together" if magnification is None else f"{magnification}x"
    return Described(name, f"(C,) float32: logits {entries}, from {where}{of_part}", False, magnification, part)


def describe_attention(magnification: int, part: str) -> Described:
    """Describe the attention (N,) of a subspace or of the tissue-specific part."""
    of_part = "tissue-specific part" if part == "tissue" else f"{SUBSPACE_TEXT[part]} subspace"
    text = (
        f"(N,) float32: attention of the {of_part} to each tile at {magnification}x; sums to 1, and is 0 without tiles"
    )
    return Described(f"attention_{magnification}x_{part}", text, False, magnification, part)


def describe_programs(magnification: int, subspace: str, names: Sequence[str]) -> Described:
    """Describe the predicted programs (P,) of a subspace."""
    listed = ", ".join(names) if len(names) <= 100 else f"{', '.join(names[:100])}, …"
    text = (
        f"({len(names)},) float32: expression programs of the {SUBSPACE_TEXT[subspace]} subspace predicted from the tissue at "
        f"{magnification}x, in standard deviations of the training patients' genes (0 = their mean): {listed}"
    )
    return Described(f"programs_{magnification}x_{subspace}", text, False, magnification, subspace)


def describe_prototypes(magnification: int) -> Described:
    """Describe the prototype (N,) of each tile."""
    text = f"(N,) int64: prototype of each tile at {magnification}x, 0 = tumor, 1 = tumor microenvironment, −1 = none"
    return Described(f"prototype_{magnification}x", text, False, magnification)
