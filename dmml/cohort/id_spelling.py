"""Recognises different spellings of a patient id: other case or separators, lost zeros, the barcode of a sample."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable


def spelt_otherwise(ours: Iterable[str], theirs: Iterable[str]) -> dict[str, str]:
    """Match ids that are in one table only and differ from an id of the other table only in spelling.

    Args:
        ours: Ids of one table.
        theirs: Ids of the other table.

    Returns:
        {id in `ours`: id in `theirs`}, without ids that match several ids of their table.
    """
    ours, theirs = list(ours), list(theirs)
    common = set(ours) & set(theirs)
    mine, other = ({}, {})
    for ids, found in ((ours, mine), (theirs, other)):
        counts = Counter(map(_plain, ids))
        found |= {_plain(name): name for name in ids if name not in common and counts[_plain(name)] == 1}
    return {mine[plain]: other[plain] for plain in mine if plain in other}


def _plain(name: str) -> str:
    """Reduce an id to letters and digits, without leading zeros, a final `.0`, or the sample part of a TCGA barcode."""
    plain = re.sub(r"[^0-9a-z]", "", re.sub(r"\.0+$", "", name.strip().casefold()))
    if re.fullmatch(r"tcga\w{2}\w{4}(\d{2}.*)?", plain):
        return plain[:10]
    return re.sub(r"^0+(?=\d)|(?<=[a-z])0+(?=\d)", "", plain)


def patient_key(name: str) -> str:
    """Reduce an id to a key without case, kind of separator, leading zeros, a final `.0`, or a barcode's sample part.

    The key is stricter than the comparison of `spelt_otherwise`: a separator between two digits or two letters is kept,
    so that `1-12` and `11-2` are different patients.
    """
    if re.fullmatch(r"tcga\w{6}", plain := _plain(name)):
        return plain
    text = re.sub(r"[^0-9a-z]+", "-", re.sub(r"\.0+$", "", name.strip().casefold())).strip("-")
    text = re.sub(r"(?<![0-9])0+(?=\d)", "", text)
    return re.sub(r"(?<=[a-z])-(?=\d)|(?<=\d)-(?=[a-z])", "", text)


def telling_keys(names: Iterable[str]) -> dict[str, str]:
    """Compute {id: `patient_key`} for the ids of one table whose key identifies a single patient.

    Two ids of a table with the same key are assumed to be different patients, so both are left out; but TCGA barcodes
    with the same key are samples of one patient.
    """
    keys = {name: patient_key(name) for name in names}
    counts = Counter(keys.values())
    return {name: key for name, key in keys.items() if counts[key] == 1 or re.fullmatch(r"tcga\w{6}", key)}
