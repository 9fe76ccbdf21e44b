"""Ids of patients in two tables that are one id: `1040.0` is read as `1040`; other spellings are found, to be told."""

from __future__ import annotations

import re
from collections import Counter
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


def differently_spelled(ours: Iterable[str], theirs: Iterable[str]) -> dict[str, str]:
    """Ids that stand in one table only, and are one patient but for case, separators, lost zeros or a barcode's sample.

    Args:
        ours: Ids of one table.
        theirs: Ids of the other.

    Returns:
        {our id: their id}; ids that two patients of a table would share are left out.
    """
    ours, theirs = list(ours), list(theirs)
    common = set(ours) & set(theirs)
    our_plain, their_plain = ({}, {})
    for ids, by_plain in ((ours, our_plain), (theirs, their_plain)):
        counts = Counter(map(_plain, ids))
        by_plain |= {_plain(name): name for name in ids if name not in common and counts[_plain(name)] == 1}
    return {our_plain[plain]: their_plain[plain] for plain in our_plain if plain in their_plain}


def _plain(name: str) -> str:
    """The letters and digits of an id, without what programs add and take away."""
    plain = re.sub(r"[^0-9a-z]", "", re.sub(r"\.0+$", "", name.strip().casefold()))
    if re.fullmatch(r"tcga\w{2}\w{4}(\d{2}.*)?", plain):
        return plain[:10]
    return re.sub(r"^0+(?=\d)|(?<=[a-z])0+(?=\d)", "", plain)
