"""Describes a mistake in a config in one line: which key, what is wrong, what to do."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from dmml.errors import InputError

NAMES = (
    "SubspaceTeacher", "SubspaceStudent", "MultimodalDataModule", "GradientCoordination", "Survival", "Classification",
    "DeformableFusion", "GatedPoolFusion",
)  # fmt: skip
"""Classes of dmml that a config may name without their module"""
DATA = (
    "clinical", "name", "patient_id", "slide_id", "outcome", "covariates", "expression", "gene_sets", "features", "split",
    "fold", "magnifications", "batch_size", "num_workers", "cache_gib", "seed", "standardise", "also",
    "recalibrate", "max_tokens", "token_budget", "pack", "balance",
)  # fmt: skip
"""Arguments of `MultimodalDataModule` (a test compares them with its signature)"""
_LONGEST = 300
_NOISE = re.compile(
    r"([Pp]arser key|Does not validate|Subtypes:|Errors:|Given value|Problem with given class_path|Expected a <class 'NoneType'>)"
)
"""Lines that describe how the parser works rather than what is wrong"""


def misspelt_class(section: Any, where: str = "") -> str | None:
    """Find the first class in a config whose name is close, but not equal, to one of dmml's. Nothing is imported.

    Args:
        section: A config, or a part of it.
        where: Key of the part.

    Returns:
        The message, or None.
    """
    if isinstance(section, dict):
        name = section.get("class_path")
        if isinstance(name, str) and "." not in name and name not in NAMES:
            near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.85)
            if near:
                return f"{where or 'config'}: there is no class {name!r}; did you mean {near[0]}?"
        parts: Iterable[tuple[Any, Any]] = section.items()
    elif isinstance(section, list):
        parts = enumerate(section)
    else:
        return None
    for key, value in parts:
        name = f"{where}.{key}" if where else str(key)
        if found := misspelt_class(value, name.replace(".init_args", "")):
            return found
    return None


def misspelt_data(section: dict[str, Any], where: str = "data") -> None:
    """Refuse an unknown argument in a data section, without importing anything heavy to know the valid ones.

    Raises:
        InputError: An argument is unknown; the message suggests the nearest valid one.
    """
    for key in section:
        if key not in DATA:
            raise InputError(f"{where}: MultimodalDataModule takes no {key!r}{_nearest(str(key), DATA)}")
    for number, other in enumerate(section.get("also") or [], start=1):
        misspelt_data(other, f"data[{number}]")


def in_one_line(message: str) -> str:
    """Reduce a parser message, which lists every type that a value might have had, to its informative part.

    Args:
        message: Several lines, as jsonargparse raises them.

    Returns:
        One line: the key, what is wrong, what to do.
    """
    keys = re.findall(r'[Pp]arser key "([^"]+)"', message) or re.findall(r'Key "([^"]+)"', message)[:1]
    key = ".".join(dict.fromkeys(keys))
    start = f"config, {key}: " if key else "config: "
    if option := _found(r"Option '([^']+)' is not accepted", message):
        kind = _found(r"Problem with given class_path '([^']+)'", message)
        return f"{start}{_short(kind) or 'it'} takes no {option!r}{_nearest(option, _arguments(kind))}"
    if option := _found(r"does not accept option '([^']+)'", message):
        known = _arguments("lightning.pytorch.Trainer") if option.startswith("trainer.") else []
        return f"config: there is no option {option!r}{_nearest(_short(option), known)}"
    if name := _found(r"Expected a dot import path string: (\S+)", message):
        return f"{start}there is no class {name!r}{_nearest(name, NAMES)}; a class of your own needs its path, as my_module.{name}"
    if module := _found(r"No module named '([^']+)'", message):
        return f"{start}there is no module {module!r}; run the command in the folder that holds it, or correct the class_path"
    lines = [line.strip().removeprefix("- ") for line in message.splitlines() if line.strip()]
    telling = [line for line in lines if not _NOISE.match(line)]
    expected = [kind for line in telling for kind in re.findall(r"^Expected an? <class '([^']+)'>", line)]
    telling = [line for line in telling if not line.startswith("Expected a")]
    if telling:
        return _cut(f"{start}{'; '.join(telling)}", _LONGEST)
    kinds = " or ".join(dict.fromkeys(map(_short, expected))) or "valid value"
    return f"{start}{_cut(_found(r'Given value: (.+)', message), 80)} is no {kinds}; correct the value"


def _found(pattern: str, message: str) -> str:
    match = re.search(pattern, message)
    return match.group(1) if match else ""


def _short(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _cut(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[:length] + " …"


def _nearest(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean …?` with the nearest known word, or an empty text if none is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _arguments(path: str) -> list[str]:
    """Names of a class's arguments; the class was already imported when the parser looked at its arguments."""
    module, _, name = path.rpartition(".")
    try:
        return [
            p for p in inspect.signature(getattr(import_module(module), name)).parameters if p not in ("args", "kwargs")
        ]
    except (ImportError, AttributeError, ValueError, TypeError):
        return []
