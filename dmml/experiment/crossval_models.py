"""The models that a cross-validation compares: which an input allows, what each needs first, and their order."""

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
"""What a cohort must have for a model, in the order in which they are fitted and shown."""
JOINED = "+clinical"
LINEAR = ("rna_linear", "clinical")
"""Regressions. Nothing in them is drawn at random: one seed is all."""


def offered(has: set[str]) -> list[str]:
    """Models that a cohort allows.

    Args:
        has: Of "RNA", "slides", "covariates".
    """
    plain = [name for name, needs in NEEDS.items() if needs <= has]
    return plain + [f"{name}{JOINED}" for name in plain if name != "clinical" and "covariates" in has]


def chosen(asked: Sequence[str] | None, has: set[str]) -> list[str]:
    """The models to fit, what they build on included, in the order of fitting.

    Args:
        asked: Names as typed; None = all that the cohort allows. With `clinical` among them, every other is also joined
            with the covariates.
        has: See `offered`.

    Raises:
        InputError: A name is unknown, or the cohort lacks what a model reads.
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
    """The models that a cohort does not allow, with what each lacks, in words."""
    found: dict[str, list[str]] = {}
    for name, needs in NEEDS.items():
        if needs - has:
            found.setdefault(" and ".join(sorted(needs - has)), []).append(name)
    return "; ".join(f"{', '.join(names)} (no {what})" for what, names in found.items())


def refuse_unknown(asked: Sequence[str]) -> None:
    """Refuse names that are no model's.

    Raises:
        InputError: The first of them is named, with those that there are.
    """
    known = {*NEEDS, *(f"{name}{JOINED}" for name in NEEDS if name != "clinical")}
    for name in asked:
        if name not in known:
            raise InputError(f"--models: there is no model {name!r}; there are {', '.join(NEEDS)}, and <name>{JOINED}")


def pairs(models: Sequence[str]) -> tuple[tuple[str, str] | None, list[tuple[str, str]]]:
    """Comparisons that are made: the primary one, and the others.

    Primary is what the project claims: the student above gated ABMIL, both of which see slides alone; without slides,
    the teacher above a linear model of the same RNA. Where the models for it are not there, none is.

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
