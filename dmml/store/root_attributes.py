"""Where the root attributes of two stores differ, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def differences(ours: Mapping[str, Any], wanted: Mapping[str, Any], partly: Sequence[str] = ()) -> str:
    """Each difference, or nothing; what either side lacks is not compared.

    Args:
        ours: Attributes of a store.
        wanted: Those that are expected.
        partly: Those of `wanted` of which only a part is given.
    """
    there, given = (dict(_flat("", attributes)) for attributes in (ours, wanted))
    changed = [key for key in given if key in there and there[key] != given[key]]
    tops = {key.split(".")[0] for key in there}
    changed += [key for key in given if key not in there and key.split(".")[0] in tops]
    changed += [key for key in there if key not in given and key.split(".")[0] in set(wanted) - set(partly)]
    return "; ".join(f"{key}: {_short(there.get(key))} there, {_short(given.get(key))} now" for key in changed)


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """{"a": {"b": 1}} → ("a.b", 1)."""
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping) and value:
            yield from _flat(name, value)
        else:
            yield name, list(value) if isinstance(value, tuple) else value


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"
