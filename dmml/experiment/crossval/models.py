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


def offered(has: set[str]) -> list[str]:
    """List the models that a cohort allows.

    Args:
        has: Which of "RNA", "slides" and "covariates" the cohort has.
    """
    plain = [name for name, needs in NEEDS.items() if needs <= has]
    return plain + [f"{name}{JOINED}" for name in plain if name != "clinical" and "covariates" in has]


def chosen(asked: Sequence[str] | None, has: set[str]) -> list[str]:
    """List the models to fit, including those that they build on, in the order of fitting.

    Args:
        asked: Names as typed; None = all that the cohort allows. If `clinical` is among them, every other model is also
            joined with the covariates.
        has: See `offered`.

    Raises:
        InputError: A name is unknown, or the cohort lacks data that a model needs.
    """
    there = offered(has)
    if asked is None:
        return there
    refuse_unknown(asked)
    for name in asked:
        if name not in there:
            needs = NEEDS[name.removesuffix(JOINED)] | ({"covariates"} if name.endswith(JOINED) else set())
            lacks = sorted(needs - has)
            raise InputError(
                f"--models: {name} needs {' and '.join(lacks)}, which the config's data section does not name"
            )
    wanted = set(asked)
    wanted |= {f"{name}{JOINED}" for name in asked if "clinical" in asked and not name.endswith(JOINED)} & set(there)
    wanted |= {name.removesuffix(JOINED) for name in wanted}
    wanted |= {"clinical"} if any(name.endswith(JOINED) for name in wanted) else set()
    wanted |= {"teacher"} if "student" in wanted else set()
    return [name for name in there if name in wanted]


def lacking(has: set[str]) -> str:
    """Describe the models that a cohort does not allow, with the data that each lacks; empty if there are none."""
    found: dict[str, list[str]] = {}
    for name, needs in NEEDS.items():
        if needs - has:
            found.setdefault(" and ".join(sorted(needs - has)), []).append(name)
    return "; ".join(f"{', '.join(names)} (no {what})" for what, names in found.items())


def refuse_unknown(asked: Sequence[str]) -> None:
    """Refuse names that are not the name of a model.

    Raises:
        InputError: A name is unknown; the message names the first unknown one and lists the models.
    """
    known = {*NEEDS, *(f"{name}{JOINED}" for name in NEEDS if name != "clinical")}
    for name in asked:
        if name not in known:
            raise InputError(f"--models: there is no model {name!r}; there are {', '.join(NEEDS)}, and <name>{JOINED}")


def pairs(models: Sequence[str]) -> tuple[tuple[str, str] | None, list[tuple[str, str]]]:
    """List the comparisons between models: the primary one, and the others.

    The primary comparison is the project's claim: the student minus gated ABMIL, both of which see slides alone;
    without slides, the teacher minus a linear model of the same RNA. If the models for it are missing, there is none.

    Returns:
        (primary or None, the others), each (a, b) for a − b.
    """
    there = set(models)
    wanted = [("student", "histology_abmil")] if "student" in there else []
    wanted += [("teacher", "rna_linear")]
    rivals = ("rna_linear", "rna_network", "early_concat", "late_fusion", "histology_abmil", "histology_mean")
    wanted += [("teacher", rival) for rival in rivals]
    wanted += [("student", rival) for rival in ("histology_abmil", "histology_mean", "student_undistilled", "teacher")]
    wanted += [("student_undistilled", rival) for rival in ("histology_abmil", "histology_mean")]
    wanted += [(name, "clinical") for name in ("teacher", "student", "rna_linear")]
    joined = ("teacher", "student", "rna_linear", "histology_abmil")
    wanted += [(f"{name}{JOINED}", "clinical") for name in joined]
    found = [pair for pair in dict.fromkeys(wanted) if set(pair) <= there]
    primaries = [pair for pair in (("student", "histology_abmil"), ("teacher", "rna_linear")) if pair in found]
    primary = primaries[0] if primaries else None
    return primary, [pair for pair in found if pair != primary]
