"""Compares the ids of two tables.

Ids that differ only in the `.0` of a number (`1040.0` and `1040`) are the same id and are matched (`match_ids`). All
other differences in spelling (case, separators, leading zeros, the barcode of a sample) are not matched, because they
may be other patients: they are only found (`differently_spelled`), so that a message can name them. `patient_key`
compares patients across all spellings where it is safer to take two ids for one patient than for two.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from dmml.errors import InputError

_DECIMAL = re.compile(r"(\d+)\.0+")


def match_ids(names: Iterable[str], ids: Iterable[str]) -> dict[str, str]:
    """Match names to ids that differ only by the `.0` that a column of numbers adds.

    Only whole numbers may lose or gain a `.0`; leading zeros and all other differences are significant.

    Args:
        names: Ids of one table.
        ids: Ids of the other table, in which the names are looked up.

    Returns:
        {name: id}, without names that equal an id or match none.
    """
    ids = set(ids)
    matched = {}
    for name in dict.fromkeys(names):
        if name not in ids and (variant := decimal_variant(name)) in ids:
            matched[name] = variant
    return matched


def decimal_variant(name: str) -> str | None:
    """Add or remove the `.0` of a whole number (`1040` ↔ `1040.0`); None for anything else."""
    if match := _DECIMAL.fullmatch(name):
        return match[1]
    return f"{name}.0" if re.fullmatch(r"\d+", name) else None


def match_ids_one_to_one(names: Iterable[str], ids: Iterable[str], source: object) -> dict[str, str]:
    """The same as `match_ids`, but refuses two names for one id, since the values of both would be merged.

    Args:
        names: Ids of one table.
        ids: Ids of the other table, in which the names are looked up.
        source: Name of the first table in messages.

    Raises:
        InputError: Two names match one id.
    """
    names, ids = list(names), set(ids)
    matched = match_ids(names, ids)
    name_of = {name: name for name in names if name in ids}
    for name, matching_id in matched.items():
        if name_of.setdefault(matching_id, name) != name:
            raise InputError(
                f"{source}: {name_of[matching_id]!r} and {name!r} would both be patient {matching_id!r}; write the id of a "
                "patient in one way only"
            )
    return matched


def differently_spelled(first: Iterable[str], second: Iterable[str]) -> dict[str, str]:
    """Find ids that are in one table only and differ from an id of the other table only in spelling.

    Args:
        first: Ids of one table.
        second: Ids of the other table.

    Returns:
        {id in `first`: id in `second`}, without ids that match several ids of their table.
    """
    first, second = list(first), list(second)
    common = set(first) & set(second)
    if len(common) in (len(set(first)), len(set(second))):  # one table contains the other, as most do
        return {}
    in_first, in_second = (_by_plain_spelling(ids, common) for ids in (first, second))
    return {in_first[plain]: in_second[plain] for plain in in_first if plain in in_second}


def _by_plain_spelling(ids: list[str], common: set[str]) -> dict[str, str]:
    """{plain spelling: id} of the ids that are in one table only and whose plain spelling is unique there."""
    counts = Counter(map(_plain, ids))
    return {_plain(name): name for name in ids if name not in common and counts[_plain(name)] == 1}


def _plain(name: str) -> str:
    """Reduce an id to letters and digits, without leading zeros, a final `.0`, or the sample part of a TCGA barcode."""
    plain = re.sub(r"[^0-9a-z]", "", re.sub(r"\.0+$", "", name.strip().casefold()))
    if re.fullmatch(r"tcga\w{2}\w{4}(\d{2}.*)?", plain):
        return plain[:10]
    return re.sub(r"^0+(?=\d)|(?<=[a-z])0+(?=\d)", "", plain)


def patient_key(name: str) -> str:
    """Reduce an id to a key without case, kind of separator, leading zeros, a final `.0`, or a barcode's sample part.

    The key is stricter than the comparison of `differently_spelled`: a separator between two digits or two letters is
    kept, so that `1-12` and `11-2` are different patients.
    """
    if re.fullmatch(r"tcga\w{6}", plain := _plain(name)):
        return plain
    text = re.sub(r"[^0-9a-z]+", "-", re.sub(r"\.0+$", "", name.strip().casefold())).strip("-")
    text = re.sub(r"(?<![0-9])0+(?=\d)", "", text)
    return re.sub(r"(?<=[a-z])-(?=\d)|(?<=\d)-(?=[a-z])", "", text)


def unique_patient_keys(names: Iterable[str]) -> dict[str, str]:
    """Compute {id: `patient_key`} for the ids of one table whose key identifies a single patient.

    Two ids of a table with the same key are assumed to be different patients, so both are left out; but TCGA barcodes
    with the same key are samples of one patient.
    """
    keys = {name: patient_key(name) for name in names}
    counts = Counter(keys.values())
    return {name: key for name, key in keys.items() if counts[key] == 1 or re.fullmatch(r"tcga\w{6}", key)}
