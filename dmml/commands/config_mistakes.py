"""What a parser or constructor says of a mistaken config, in one line: which key, what is wrong, what to do."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable
from importlib import import_module
from typing import Any

NAMES = (
    "SubspaceTeacher", "SubspaceStudent", "MultimodalDataModule", "GradientCoordination", "Survival", "Classification",
    "DeformableFusion", "GatedPoolFusion",
)  # fmt: skip
"""Classes of dmml that a config may name without their module"""
_LONGEST = 300


def misspelt_class(section: Any, where: str = "") -> str | None:
    """The first class in a config whose name is nearly, but not quite, one of dmml's; nothing is imported.

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


def in_one_line(message: str) -> str:
    """The telling part of a message of the parser, which lists every type that a value might have had.

    Args:
        message: Several lines, as jsonargparse raises them.

    Returns:
        One line: the key, what is wrong, what to do.
    """
    key = _found(r'Parser key "([^"]+)"', message) or _found(r'Key "([^"]+)"', message)
    start = f"config, {key}: " if key else "config: "
    if option := _found(r"Option '([^']+)' is not accepted", message):
        kind = _found(r"Problem with given class_path '([^']+)'", message)
        return f"{start}{_short(kind) or 'it'} takes no {option!r}{_nearest(option, _arguments(kind))}"
    if name := _found(r"Expected a dot import path string: (\S+)", message):
        return f"{start}there is no class {name!r}{_nearest(name, NAMES)}; a class of your own needs its path, as my_module.{name}"
    if module := _found(r"No module named '([^']+)'", message):
        return f"{start}there is no module {module!r}; run the command in the folder that holds it, or correct the class_path"
    expected = re.findall(r"Expected a <class '([^']+)'>", message)
    value = _found(r"Given value: (.+)", message)
    if expected and value:
        kinds = " or ".join(dict.fromkeys(_short(name).replace("NoneType", "null") for name in expected))
        return f"{start}{_cut(value, 80)} is no {kinds}; correct the value"
    lines = [line.strip(" -") for line in message.splitlines() if line.strip()]
    telling = [line for line in lines if not re.match(r"(Parser key|Does not validate|Subtypes:|Errors:|Given value)", line)]
    return _cut(f"{start}{'; '.join(telling or lines)}", _LONGEST)


def _found(pattern: str, message: str) -> str:
    match = re.search(pattern, message)
    return match.group(1) if match else ""


def _short(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _cut(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[:length] + " …"


def _nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean …?` with the nearest of the words known, or all of them where they are few."""
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; it takes {', '.join(known)}" if 0 < len(known) <= 12 else ""


def _arguments(path: str) -> list[str]:
    """Names of what a class takes; it was imported already, since the parser looked at its arguments."""
    module, _, name = path.rpartition(".")
    try:
        return [p for p in inspect.signature(getattr(import_module(module), name)).parameters if p not in ("args", "kwargs")]
    except (ImportError, AttributeError, ValueError, TypeError):
        return []
