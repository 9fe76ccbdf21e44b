"""Ids of two tables that differ only in the `.0` of a number: `1040.0` is `1040`. Other spellings: `id_spelling`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from dmml.errors import InputError

_FLOAT = re.compile(r"(\d+)\.0+")


def match_ids(names: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """{name: known id} of the names that differ from a known id only by the `.0` that a column of numbers adds.

    Only whole numbers lose or gain a `.0`: zeros in front of them count, and so does every other difference.

    Args:
        names: Ids of one table.
        known: Ids of the table that they are looked up in.

    Returns:
        Names that are known as they are, and names that match no known id, are left out.
    """
    known = set(known)
    matched = {}
    for name in dict.fromkeys(names):
        if name not in known and (other := other_spelling(name)) in known:
            matched[name] = other
    return matched


def other_spelling(name: str) -> str | None:
    """`1040` for `1040.0` and `1040.0` for `1040`; None for anything but a whole number."""
    if whole := _FLOAT.fullmatch(name):
        return whole[1]
    return f"{name}.0" if re.fullmatch(r"\d+", name) else None


def match_ids_once(names: Iterable[str], known: Iterable[str], source: object) -> dict[str, str]:
    """As `match_ids`, for a table in which two names must not be one patient, since their values would be merged.

    Args:
        names: Ids of one table.
        known: Ids of the table that they are looked up in.
        source: What messages call the first table.

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
