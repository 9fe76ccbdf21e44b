"""What tissue a sample is of: by the sample type in a TCGA or TARGET barcode, or by what a sample sheet says."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

# TCGA-<site>-<participant>-<sample type><vial>-…, with R's dots or underscores, in either case, alone or inside a file's name.
_BARCODE = re.compile(
    r"(?<![A-Za-z0-9])(TCGA[-._ ][A-Za-z0-9]{2}[-._ ][A-Za-z0-9]{4}|TARGET[-._ ]\d{2}[-._ ][A-Za-z]{6})"
    r"[-._ ](\d{2})[A-WYZ]?(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_PRIMARY_TYPES = {1, 3, 5, 9}  # 02, 04 and 40 are of recurrences, 06 and 07 of metastases
_NORMAL_TYPES = range(10, 30)  # 10 to 19 are normal tissue, 20 to 29 control analytes
_CULTURED_TYPES = range(50, 100)  # cell lines and xenografts
_NORMAL_WORDS = re.compile(
    r"\b(?:normal|control|peritumou?ral|adjacent|healthy|non[- ]?tumou?r)"
    r"|(?<!\S)(?:N|NAT|NT|NB|NBC|NEBV|NBM|CELLC)(?!\S)",  # letter codes of CPTAC and TCGA
    re.IGNORECASE,
)
_LATER_WORDS = re.compile(r"recurr|metast|(?<!\S)(?:TR|TM|TAM|TRBM)(?!\S)", re.IGNORECASE)


class Tissue(Enum):
    """Kind of tissue of a sample."""

    PRIMARY = "primary tumor"
    LATER = "recurrence or metastasis"
    NORMAL = "normal tissue or control"
    CULTURED = "cell line or xenograft"

    @property
    def is_tumor(self) -> bool:
        """Whether it describes the patient's tumor."""
        return self in (Tissue.PRIMARY, Tissue.LATER)


class Barcode(NamedTuple):
    """The barcode of a sample, an aliquot or a slide."""

    patient: str
    """as the GDC spells it: upper case, dashes"""
    sample_type: int


def find_barcode(name: str) -> Barcode | None:
    """The first barcode with a sample type in a name; None where there is none, as in a patient's own barcode."""
    found = _BARCODE.search(name)
    return Barcode(re.sub(r"[._ ]", "-", found[1]).upper(), int(found[2])) if found else None


def tissue_of(names: Iterable[str], description: str = "") -> Tissue:
    """The tissue of a sample.

    A barcode with a sample type of normal tissue counts more than any description, since normal tissue must never be used
    as the tumor. Otherwise the description decides, if there is one. A sample of unknown tissue is taken for a
    primary tumor.

    Args:
        names: What may hold its barcode: its name, its file's name, its id in a sample sheet.
        description: The words of a sample sheet on its tissue, and a bare sample type (`11`).
    """
    codes = [barcode.sample_type for name in names if (barcode := find_barcode(name))]
    codes += [int(word) for word in re.findall(r"(?<!\S)\d{2}(?!\S)", description)]
    if any(code in _NORMAL_TYPES for code in codes) or _NORMAL_WORDS.search(description):
        return Tissue.NORMAL
    if any(code in _CULTURED_TYPES for code in codes):
        return Tissue.CULTURED
    if re.search("[A-Za-z]", description):
        is_later = "primary" not in description.lower() and _LATER_WORDS.search(description)
        return Tissue.LATER if is_later else Tissue.PRIMARY
    return Tissue.PRIMARY if all(code in _PRIMARY_TYPES for code in codes) else Tissue.LATER
