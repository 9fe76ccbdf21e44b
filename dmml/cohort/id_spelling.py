"""Patient ids that are one id spelt in two ways: other case, other separators, lost zeros, a sample's barcode."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable


def spelt_otherwise(ours: Iterable[str], theirs: Iterable[str]) -> dict[str, str]:
    """Ids that stand in one table only, and are one patient but for their spelling.

    Args:
        ours: Ids of one table.
        theirs: Ids of the other.

    Returns:
        {our id: their id}; ids that two patients of a table would share are left out.
    """
    ours, theirs = list(ours), list(theirs)
    common = set(ours) & set(theirs)
    mine, other = ({}, {})
    for ids, found in ((ours, mine), (theirs, other)):
        counts = Counter(map(_plain, ids))
        found |= {_plain(name): name for name in ids if name not in common and counts[_plain(name)] == 1}
    return {mine[plain]: other[plain] for plain in mine if plain in other}


def _plain(name: str) -> str:
    """The letters and digits of an id, without what programs add and take away."""
    plain = re.sub(r"[^0-9a-z]", "", re.sub(r"\.0+$", "", name.strip().casefold()))
    if re.fullmatch(r"tcga\w{2}\w{4}(\d{2}.*)?", plain):
        return plain[:10]
    return re.sub(r"^0+(?=\d)|(?<=[a-z])0+(?=\d)", "", plain)


def patient_key(name: str) -> str:
    """An id without what programs change in it: case, kind of separator, leading zeros, a decimal point, a barcode's end.

    It is stricter than the comparison of `spelt_otherwise`: a separator between two digits or two letters stays, so that
    `1-12` and `11-2` are two patients.
    """
    if re.fullmatch(r"tcga\w{6}", plain := _plain(name)):
        return plain
    text = re.sub(r"[^0-9a-z]+", "-", re.sub(r"\.0+$", "", name.strip().casefold())).strip("-")
    text = re.sub(r"(?<![0-9])0+(?=\d)", "", text)
    return re.sub(r"(?<=[a-z])-(?=\d)|(?<=\d)-(?=[a-z])", "", text)


def telling_keys(names: Iterable[str]) -> dict[str, str]:
    """{id: its `patient_key`} of one table's ids whose key is one patient's.

    Two ids of a table with one key are taken for two patients, whom the key does not tell apart; but barcodes of TCGA with
    one key are samples of one patient.
    """
    keys = {name: patient_key(name) for name in names}
    counts = Counter(keys.values())
    return {name: key for name, key in keys.items() if counts[key] == 1 or re.fullmatch(r"tcga\w{6}", key)}
