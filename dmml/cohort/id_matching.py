"""Ids in two tables that are one id but for the `.0` of a number: `1040.0` is `1040`. Other spellings: `id_spelling`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from dmml.errors import InputError

_FLOAT = re.compile(r"(\d+)\.0+")


def match_ids(names: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """{name: the known id that it is} of names that are known but for the `.0` that a column of numbers gives them.

    Only whole numbers lose or gain a `.0`: zeros in front of them count, and so does every other difference.

    Args:
        names: Ids of one table.
        known: Ids of the table that they are looked up in.

    Returns:
        Names that are known as they are, or not known at all, are left out.
    """
    known = set(known)
    matched = {}
    for name in dict.fromkeys(names):
        if name not in known and (other := other_spelling(name)) in known:
            matched[name] = other
    return matched


def other_spelling(name: str) -> str | None:
    """`1040` for `1040.0` and `1040.0` for `1040`; None for what is no whole number."""
    if whole := _FLOAT.fullmatch(name):
        return whole[1]
    return f"{name}.0" if re.fullmatch(r"\d+", name) else None


def match_ids_once(names: Iterable[str], known: Iterable[str], source: object) -> dict[str, str]:
    """As `match_ids`, of a table in which no two names may be one patient, since their values would be merged.

    Args:
        names: Ids of one table.
        known: Ids of the table that they are looked up in.
        source: What messages call the first table.

    Raises:
        InputError: Two names are one known id.
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
