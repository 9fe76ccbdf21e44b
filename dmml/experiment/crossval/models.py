"""The models that a cross-validation compares: what data and which other models each needs, and their order."""

from __future__ import annotations

from collections.abc import Sequence

from dmml.errors import InputError

NEEDS = {
    "teacher": {"RNA"},
    "student": {"RNA", "slides"},
    "student_undistilled": {"slides"},
    "rna_linear": {"RNA"},
    "rna_network": {"RNA"},
    "histology_mean": {"slides"},
    "histology_abmil": {"slides"},
    "early_concat": {"RNA", "slides"},
    "late_fusion": {"RNA", "slides"},
    "clinical": {"covariates"},
}
"""What data a model needs; the models are fitted and shown in this order"""
JOINED = "+clinical"
LINEAR = ("rna_linear", "clinical")
"""Regressions. They involve no randomness, so one seed is enough"""


def possible_models(available: set[str]) -> list[str]:
    """List the models that a cohort allows.

    Args:
        available: Which of "RNA", "slides" and "covariates" the cohort has.
    """
    plain = [name for name, needs in NEEDS.items() if needs <= available]
    with_clinical = [f"{name}{JOINED}" for name in plain if name != "clinical" and "covariates" in available]
    return plain + with_clinical


def select_models(requested: Sequence[str] | None, available: set[str]) -> list[str]:
    """List the models to fit, including those that they build on, in the order of fitting.

    Args:
        requested: Names as typed; None = all that the cohort allows. If `clinical` is among them, every other model is
            also joined with the covariates.
        available: See `possible_models`.

    Raises:
        InputError: A name is unknown, or the cohort lacks data that a model needs.
    """
    possible = possible_models(available)
    if requested is None:
        return possible
    check_model_names(requested)
    for name in requested:
        if name not in possible:
            needs = NEEDS[name.removesuffix(JOINED)] | ({"covariates"} if name.endswith(JOINED) else set())
            missing = sorted(needs - available)
            raise InputError(
                f"--models: {name} needs {' and '.join(missing)}, which the config's data section does not name"
            )
    selected = set(requested)
    if "clinical" in requested:
        selected |= {f"{name}{JOINED}" for name in requested if not name.endswith(JOINED)} & set(possible)
    selected |= {name.removesuffix(JOINED) for name in selected}
    selected |= {"clinical"} if any(name.endswith(JOINED) for name in selected) else set()
    selected |= {"teacher"} if "student" in selected else set()
    return [name for name in possible if name in selected]


def explain_left_out(available: set[str]) -> str:
    """Describe the models that a cohort does not allow, with the data that each lacks; empty if there are none."""
    left_out: dict[str, list[str]] = {}
    for name, needs in NEEDS.items():
        if needs - available:
            left_out.setdefault(" and ".join(sorted(needs - available)), []).append(name)
    return "; ".join(f"{', '.join(names)} (no {missing})" for missing, names in left_out.items())


def check_model_names(names: Sequence[str]) -> None:
    """Refuse names that are not the name of a model.

    Raises:
        InputError: A name is unknown; the message names the first unknown one and lists the models.
    """
    valid = {*NEEDS, *(f"{name}{JOINED}" for name in NEEDS if name != "clinical")}
    for name in names:
        if name not in valid:
            raise InputError(f"--models: there is no model {name!r}; give any of {', '.join(NEEDS)}, or <name>{JOINED}")


def pairs(models: Sequence[str]) -> tuple[tuple[str, str] | None, list[tuple[str, str]]]:
    """List the comparisons between models: the primary one, and the others.

    The primary comparison is the project's claim: the student minus gated ABMIL, both of which see slides alone;
    without slides, the teacher minus a linear model of the same RNA. If the models for it are missing, there is none.

    Returns:
        (primary or None, the others), each (a, b) for a − b.
    """
    fitted = set(models)
    planned = [("student", "histology_abmil")] if "student" in fitted else []
    planned += [("teacher", "rna_linear")]
    rivals = ("rna_linear", "rna_network", "early_concat", "late_fusion", "histology_abmil", "histology_mean")
    planned += [("teacher", rival) for rival in rivals]
    planned += [("student", rival) for rival in ("histology_abmil", "histology_mean", "student_undistilled", "teacher")]
    planned += [("student_undistilled", rival) for rival in ("histology_abmil", "histology_mean")]
    planned += [(name, "clinical") for name in ("teacher", "student", "rna_linear")]
    joined = ("teacher", "student", "rna_linear", "histology_abmil")
    planned += [(f"{name}{JOINED}", "clinical") for name in joined]
    possible = [pair for pair in dict.fromkeys(planned) if set(pair) <= fitted]
    primaries = [pair for pair in (("student", "histology_abmil"), ("teacher", "rna_linear")) if pair in possible]
    primary = primaries[0] if primaries else None
    return primary, [pair for pair in possible if pair != primary]
