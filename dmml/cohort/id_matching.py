"""Matches ids of two tables that differ only in the `.0` of a number: `1040.0` is `1040`.

Other differences in spelling are handled by `id_spelling`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from dmml.errors import InputError

_FLOAT = re.compile(r"(\d+)\.0+")


def match_ids(names: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Match names to known ids that differ only by the `.0` that a column of numbers adds.

    Only whole numbers may lose or gain a `.0`; leading zeros and all other differences are significant.

    Args:
        names: Ids of one table.
        known: Ids of the other table, in which the names are looked up.

    Returns:
        {name: known id}, without names that equal a known id or match none.
    """
    known = set(known)
    matched = {}
    for name in dict.fromkeys(names):
        if name not in known and (other := other_spelling(name)) in known:
            matched[name] = other
    return matched


def other_spelling(name: str) -> str | None:
    """Add or remove the `.0` of a whole number (`1040` ↔ `1040.0`); None for anything else."""
    if whole := _FLOAT.fullmatch(name):
        return whole[1]
    return f"{name}.0" if re.fullmatch(r"\d+", name) else None


def match_ids_once(names: Iterable[str], known: Iterable[str], source: object) -> dict[str, str]:
    """The same as `match_ids`, but refuses two names for one id, since the values of both would be merged.

    Args:
        names: Ids of one table.
        known: Ids of the other table, in which the names are looked up.
        source: Name of the first table in messages.

    Raises:
        InputError: Two names match one known id.
    """
    names, known = list(names), set(known)
    matched = match_ids(names, known)
    taken = {name: name for name in names if name in known}
    for name, other in matched.items():
        if taken.setdefault(other, name) != name:
            raise InputError(
                f"{source}: {taken[other]!r} and {name!r} would both be patient {other!r}; write each patient's id one way"
            )
    return matched
