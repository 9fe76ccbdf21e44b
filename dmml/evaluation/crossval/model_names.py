"""The models of a cross-validation: what each reads, how reports call it, and whether it is fitted only on request."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from dmml.evaluation.crossval.results import JOINED


class ModelName(NamedTuple):
    """A model of a cross-validation, as users and reports know it.

    Attributes:
        needs: What data it is fitted to: "RNA", "slides", "covariates".
        label: Its name in tables and plots.
        phrase: Its name in sentences.
        on_request: Whether it is fitted only if --models or --baselines names it.
    """

    needs: frozenset[str]
    label: str
    phrase: str
    on_request: bool = False


RNA, SLIDES, BOTH = frozenset({"RNA"}), frozenset({"slides"}), frozenset({"RNA", "slides"})

MODELS = {
    "teacher": ModelName(RNA, "teacher", "the teacher, which sees {inputs}"),
    "student": ModelName(BOTH, "student", "the student, which sees only slides"),
    "student_undistilled": ModelName(
        SLIDES, "undistilled student", "the student without a teacher, which sees only slides"
    ),
    "rna_linear": ModelName(RNA, "RNA, linear", "a linear model of the RNA"),
    "rna_network": ModelName(RNA, "RNA, network", "a network on the RNA"),
    "histology_mean": ModelName(SLIDES, "slides, mean pool", "the mean of the tiles' features"),
    "histology_abmil": ModelName(SLIDES, "slides, gated ABMIL", "gated ABMIL on slides alone"),
    "early_concat": ModelName(BOTH, "early concatenation", "early concatenation of slides and RNA"),
    "late_fusion": ModelName(BOTH, "late fusion", "late fusion of slides and RNA"),
    "transmil": ModelName(SLIDES, "slides, TransMIL", "TransMIL on slides alone", on_request=True),
    "mcat": ModelName(BOTH, "MCAT", "MCAT on slides and RNA", on_request=True),
    "clinical": ModelName(frozenset({"covariates"}), "clinical covariates", "the clinical covariates"),
}
"""Models are fitted and shown in this order. A user's own baselines are not listed; they go by their own names."""


def label(model: str) -> str:
    """Name of a model in tables and plots."""
    plain = model.removesuffix(JOINED)
    name = MODELS[plain].label if plain in MODELS else plain
    return f"{name} + clinical" if model.endswith(JOINED) else name


def phrase(model: str, inputs: Collection[str]) -> str:
    """Describe a model and its inputs in a sentence.

    Args:
        model: Name of the model.
        inputs: Which of "RNA" and "slides" the cohort has.
    """
    plain = model.removesuffix(JOINED)
    text = MODELS[plain].phrase if plain in MODELS else f"the model {plain}"
    text = text.replace("{inputs}", joined_inputs(inputs))
    if not model.endswith(JOINED):
        return text
    return f"{text}{',' if ',' in text else ''} joined with the clinical covariates"


def joined_inputs(inputs: Collection[str]) -> str:
    """List the inputs of the cohort: "slides and RNA"."""
    return " and ".join(sorted(inputs, key=("slides", "RNA").index)) or "its inputs"


def inputs_of(model: str, inputs: Collection[str], added: Mapping[str, Collection[str]] | None = None) -> str:
    """Inputs of a model at prediction: "slides and RNA", "slides", "RNA" or "clinical".

    Args:
        model: Name of the model.
        inputs: Which of "RNA" and "slides" the cohort has.
        added: {model: which of them it reads} of the baselines that `--baselines` added.
    """
    plain = model.removesuffix(JOINED)
    if added and plain in added:
        return joined_inputs(added[plain])
    if plain == "clinical":
        return "clinical"
    if plain == "teacher":
        return joined_inputs(inputs or BOTH)
    if plain.startswith("student"):
        return "slides"
    return joined_inputs(MODELS[plain].needs) if plain in MODELS else "slides and RNA"
