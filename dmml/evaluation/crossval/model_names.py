"""How reports call the models of a cross-validation, and which inputs each of them has."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dmml.evaluation.crossval.results import JOINED

NAMES = {
    "teacher": ("teacher", "the teacher, which sees {inputs}"),
    "student": ("student", "the student, which sees only slides"),
    "student_undistilled": ("undistilled student", "the student without a teacher, which sees only slides"),
    "clinical": ("clinical covariates", "the clinical covariates"),
    "rna_linear": ("RNA, linear", "a linear model of the RNA"),
    "rna_network": ("RNA, network", "a network on the RNA"),
    "histology_mean": ("slides, mean pool", "the mean of the tiles' features"),
    "histology_abmil": ("slides, gated ABMIL", "gated ABMIL on slides alone"),
    "early_concat": ("early concatenation", "early concatenation of slides and RNA"),
    "late_fusion": ("late fusion", "late fusion of slides and RNA"),
    "transmil": ("slides, TransMIL", "TransMIL on slides alone"),
    "mcat": ("MCAT", "MCAT on slides and RNA"),
}
"""{model: (name in tables and plots, phrase in sentences)}. Models that are not listed go by their own names."""


def label(model: str) -> str:
    """Name of a model in tables and plots."""
    plain = model.removesuffix(JOINED)
    name, _ = NAMES.get(plain, (plain, ""))
    return f"{name} + clinical" if model.endswith(JOINED) else name


def phrase(model: str, inputs: Collection[str]) -> str:
    """Describe a model and its inputs in a sentence.

    Args:
        model: Name of the model.
        inputs: Which of "RNA" and "slides" the cohort has.
    """
    plain = model.removesuffix(JOINED)
    _, text = NAMES.get(plain, ("", f"the model {plain}"))
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
    if plain == "teacher" and len(inputs) == 1:
        return min(inputs)
    if plain.startswith("rna_"):
        return "RNA"
    return "slides" if plain.startswith(("student", "histology")) else "slides and RNA"
