"""Text in a config that YAML reads as another type: `Yes` and `on` as true, 2 as a number, 2024-01-01 as a date."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from typing import Any

from dmml.cohort.cohort_config import text_arguments
from dmml.errors import InputError

_INNER_TEXT = {
    "outcome": ("time", "event", "censored", "unit", "label", "value"),
    "expression": ("path", "patient_id", "suffix", "scale", "patients", "probes", "layer", "gene_names"),
    "gene_sets": ("tumor", "tme", "preset"),
}


def check_quotes(section: Mapping[str, Any], model: Mapping[str, Any] | None = None) -> None:
    """Refuse values that should be text but that YAML reads as another type.

    Classes may be numbers: `[2, 3, 4]` stands for the classes `2`, `3` and `4`.

    Args:
        section: Arguments of a data section.
        model: Arguments of the model, for the classes of its task.

    Raises:
        InputError: A value needs quotes; the message names the key and shows them.
    """
    for key, value in _texts(section):
        if isinstance(value, (bool, int, float, datetime.date)):
            raise InputError(f'data.{key}: {_explain(value)}; put quotes around it, such as "{_as_typed(value)}"')
    split = section.get("split")
    if isinstance(split, (bool, int, float)):
        raise InputError(
            f"data.split: {split} is neither folds nor a path; write {{folds: 5}} for five folds, or put quotes around a path"
        )
    for number, other in enumerate(section.get("also") or [], start=1):
        try:
            check_quotes(other)
        except InputError as error:
            raise InputError(f"data[{number}]{str(error).removeprefix('data')}") from None
    stated = _arguments((model or {}).get("task")).get("classes")
    classes = stated if isinstance(stated, list) else []
    for value in classes:
        if value is None or isinstance(value, (bool, datetime.date)):
            quoted = ", ".join(f'"{_as_typed(name)}"' for name in classes)
            raise InputError(
                f"model.task.classes: {_explain(value)}; put quotes around the classes as the label column has them, such as "
                f"[{quoted}]"
            )


def _texts(section: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield every value that must be text, with its key."""
    for key in text_arguments():
        yield key, section.get(key)
    for key, inner in _INNER_TEXT.items():
        value = section.get(key)
        yield from (
            [(f"{key}.{name}", value.get(name)) for name in inner] if isinstance(value, Mapping) else [(key, value)]
        )
    covariates = section.get("covariates")
    yield from (("covariates", name) for name in (covariates if isinstance(covariates, list) else [covariates]))


def _explain(value: object) -> str:
    if isinstance(value, bool):
        spellings = "Yes, on or true" if value else "No, off or false"
        return f"YAML reads a word such as {spellings} without quotes as {str(value).lower()}"
    if value is None:
        return "YAML reads null, ~ or nothing as no value"
    kind = "date" if isinstance(value, datetime.date) else "number"
    return f"YAML reads {value} without quotes as a {kind}"


def _as_typed(value: object) -> str:
    """Return a value as the user probably wrote it."""
    if isinstance(value, bool):
        return "Yes" if value else "No"
    return "NA" if value is None else str(value)


def _arguments(section: object) -> Mapping[str, Any]:
    """Return the arguments of a class in a config."""
    return (section.get("init_args") or section) if isinstance(section, Mapping) else {}
