"""The models that a cross-validation compares: what data and which other models each needs, and their order."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from dmml.errors import InputError
from dmml.evaluation.crossval.model_names import MODELS
from dmml.evaluation.crossval.results import JOINED

NEEDS = {name: set(model.needs) for name, model in MODELS.items()}
"""What data a model needs; the models are fitted and shown in this order"""
ON_REQUEST = tuple(name for name, model in MODELS.items() if model.on_request)
"""Models that are fitted only where --models or --baselines names them"""
SUBSPACE_MODELS = ("teacher", "student")
"""Start of the names of models with subspaces"""
LINEAR = ("rna_linear", "clinical")
"""Regressions. They involve no randomness, so one seed is enough"""


_NONE: Mapping[str, Collection[str]] = MappingProxyType({})


def possible_models(available: set[str], baselines: Mapping[str, Collection[str]] = _NONE) -> list[str]:
    """List the models that a cohort allows.

    Args:
        available: Which of "RNA", "slides" and "covariates" the cohort has.
        baselines: {name: what data it needs} of the user's own baselines.
    """
    plain = [name for name, needs in _all_needs(baselines).items() if set(needs) <= available]
    with_clinical = [f"{name}{JOINED}" for name in plain if name != "clinical" and "covariates" in available]
    return plain + with_clinical


def select_models(
    requested: Sequence[str] | None, available: set[str], baselines: Mapping[str, Collection[str]] = _NONE
) -> list[str]:
    """List the models to fit, including those that they build on, in the order of fitting.

    Args:
        requested: Names as typed; None = all that the cohort allows, except those in `ON_REQUEST`. If `clinical` is
            among them, every other model is also joined with the covariates.
        available: See `possible_models`.
        baselines: {name: what data it needs} of the baselines of --baselines, which are fitted as well.

    Raises:
        InputError: A name is unknown, or the cohort lacks data that a model needs.
    """
    possible = possible_models(available, baselines)
    all_needs = _all_needs(baselines)
    check_model_names(requested or [], baselines)
    for name in [*(requested or []), *baselines]:
        if name not in possible:
            needs = set(all_needs[name.removesuffix(JOINED)]) | ({"covariates"} if name.endswith(JOINED) else set())
            missing = sorted(needs - available)
            option = "--baselines" if name in baselines else "--models"
            raise InputError(
                f"{option}: {name} needs {' and '.join(missing)}, which the config's data section does not name"
            )
    if requested is None:
        unasked = {name for name in ON_REQUEST if name not in baselines}
        return [name for name in possible if name.removesuffix(JOINED) not in unasked]
    selected = {*requested, *baselines}
    if "clinical" in requested:
        selected |= {f"{name}{JOINED}" for name in selected if not name.endswith(JOINED)} & set(possible)
    selected |= {name.removesuffix(JOINED) for name in selected}
    selected |= {"clinical"} if any(name.endswith(JOINED) for name in selected) else set()
    selected |= {"teacher"} if "student" in selected else set()
    return [name for name in possible if name in selected]


def _all_needs(baselines: Mapping[str, Collection[str]]) -> dict[str, Collection[str]]:
    """Return `NEEDS` with the user's own baselines before the clinical model."""
    networks = {name: needs for name, needs in NEEDS.items() if name != "clinical"}
    return {**networks, **baselines, "clinical": NEEDS["clinical"]}


def parse_baselines(text: str) -> dict[str, str]:
    """Read the option --baselines.

    Args:
        text: Baselines, separated by commas: a short name in `ON_REQUEST`, the path of a class, or `NAME=PATH`.

    Returns:
        {name of the model: short name or path}. Without a name, a class's own is taken.

    Raises:
        InputError: A name is not usable, or given twice.
    """
    baselines: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, path = item.rpartition("=")
        name = name or path.rpartition(".")[2]
        if "." not in path and path not in NEEDS:
            raise InputError(
                f"--baselines: there is no baseline {path!r}; give {' or '.join(ON_REQUEST)}, or the path of your own "
                "class, as my_module.MyNetwork"
            )
        is_taken = name in baselines or (name in NEEDS and name != path)
        if is_taken or not re.fullmatch(r"[A-Za-z]\w*", name) or name.startswith(SUBSPACE_MODELS):
            raise InputError(
                f"--baselines: {item} cannot be called {name!r}; write it as NAME={path} with another name of letters, "
                "digits and underscores"
            )
        baselines[name] = path
    return baselines


def needs_of(baselines: Mapping[str, str]) -> dict[str, Collection[str]]:
    """Return {name: what data it needs}; a user's class is imported to know it.

    Args:
        baselines: See `parse_baselines`.

    Raises:
        InputError: A class cannot be imported, or does not say what it reads.
    """
    of_users = {name for name, path in baselines.items() if "." in path}
    if of_users:
        from dmml.nn.baselines.registry import find_baseline  # imports torch, which takes seconds

        return {
            name: find_baseline(path).reads if name in of_users else NEEDS[path] for name, path in baselines.items()
        }
    return {name: NEEDS[path] for name, path in baselines.items()}


def is_baseline(name: str) -> bool:
    """Whether a network is a baseline, and neither a teacher nor a student."""
    return not name.startswith(SUBSPACE_MODELS)


def explain_left_out(available: set[str]) -> str:
    """Describe the models that a cohort does not allow, with the data that each lacks; empty if there are none."""
    left_out: dict[str, list[str]] = {}
    for name, needs in NEEDS.items():
        if name not in ON_REQUEST and needs - available:
            left_out.setdefault(" and ".join(sorted(needs - available)), []).append(name)
    return "; ".join(f"{', '.join(names)} (no {missing})" for missing, names in left_out.items())


def check_model_names(names: Sequence[str], baselines: Collection[str] = ()) -> None:
    """Refuse names that are not the name of a model.

    Args:
        names: Names as typed.
        baselines: Names of the user's own baselines.

    Raises:
        InputError: A name is unknown; the message names the first unknown one and lists the models.
    """
    models = [*NEEDS, *baselines]
    valid = {*models, *(f"{name}{JOINED}" for name in models if name != "clinical")}
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
    listed = {*rivals, "teacher", "student", "student_undistilled", "clinical"}
    added = [name for name in models if name not in listed and not name.endswith(JOINED)]
    planned += [("teacher", rival) for rival in (*rivals, *added)]
    rivals_of_student = ("histology_abmil", "histology_mean", "student_undistilled", "teacher")
    planned += [("student", rival) for rival in (*rivals_of_student, *added)]
    planned += [("student_undistilled", rival) for rival in ("histology_abmil", "histology_mean")]
    planned += [(name, "clinical") for name in ("teacher", "student", "rna_linear")]
    joined = ("teacher", "student", "rna_linear", "histology_abmil")
    planned += [(f"{name}{JOINED}", "clinical") for name in joined]
    possible = [pair for pair in dict.fromkeys(planned) if set(pair) <= fitted]
    primaries = [pair for pair in (("student", "histology_abmil"), ("teacher", "rna_linear")) if pair in possible]
    primary = primaries[0] if primaries else None
    return primary, [pair for pair in possible if pair != primary]
