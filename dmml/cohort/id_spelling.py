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
        counts = Counter(map(plain_id, ids))
        found |= {plain_id(name): name for name in ids if name not in common and counts[plain_id(name)] == 1}
    return {mine[plain]: other[plain] for plain in mine if plain in other}


def plain_id(name: str) -> str:
    """The letters and digits of an id, without what programs add and take away; of a TCGA barcode, the patient's part.

    Two ids with the same plain form may be one patient's, or two patients' of one table (`A1` and `A01`).
    """
    plain = re.sub(r"[^0-9a-z]", "", re.sub(r"\.0+$", "", name.strip().casefold()))
    if re.fullmatch(r"tcga\w{2}\w{4}(\d{2}.*)?", plain):
        return plain[:10]
    return re.sub(r"^0+(?=\d)|(?<=[a-z])0+(?=\d)", "", plain)
