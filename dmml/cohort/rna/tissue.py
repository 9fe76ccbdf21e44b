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
_WITHOUT_SEPARATORS = re.compile(
    r"(?<![A-Za-z0-9])TCGA([A-Za-z0-9]{2})([A-Za-z0-9]{4})(\d{2})[A-WYZ]?(?:\d{2}[A-Za-z][A-Za-z0-9]*)?(?![A-Za-z0-9])",
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


_TISSUE_COLUMNS = {"sample_type", "sample_type_id", "tissue_type", "tissue", "tumor_descriptor", "shortlettercode"}
"""of the portal's sheets before and since 2024, of cBioPortal's and of TCGAbiolinks'"""
_TISSUE = re.compile(
    r"(?:(?:primary|solid tissue|adjacent|matched|non|blood derived|recurrent|metastatic)[ -])*"
    r"(?:tumou?r|cancer|normal|healthy|control|metastas[ei]s|metastatic|recurren(?:t|ce)|primary)(?: tissue| sample)?",
    re.IGNORECASE,
)


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


DROPPED = {
    Tissue.NORMAL: "normal_samples_dropped",
    Tissue.CULTURED: "samples_of_cell_lines_or_xenografts_dropped",
}
"""{tissue that is no tumor: its name among the counts of a table's provenance}"""


class Barcode(NamedTuple):
    """The barcode of a sample, an aliquot or a slide."""

    patient: str
    """as the GDC spells it: upper case, dashes"""
    sample_type: int


def spellings_of_barcode(name: str) -> list[str]:
    """A TCGA barcode as the GDC spells it, and cut to its sample with and without the vial; nothing for other names."""
    if not re.match(r"TCGA[-._ ]", name, re.IGNORECASE):
        return []
    spelled = re.sub(r"[._ ]", "-", name).upper()
    return list(dict.fromkeys([spelled, spelled[:16], spelled[:15]])) if find_barcode(name) else [spelled]


def describes_tissue(name: str, words: Iterable[str]) -> bool:
    """Whether a column says of what tissue samples are: by its name, or since it holds words for tissue alone, normal among them."""
    words = set(words)
    if name.strip().lower().replace(" ", "_") in _TISSUE_COLUMNS:
        return True
    if words <= {"T", "N"}:
        return len(words) == 2
    return all(map(_TISSUE.fullmatch, words)) and any(map(_NORMAL_WORDS.search, words))


def find_barcode(name: str) -> Barcode | None:
    """The first barcode with a sample type in a name; None where there is none, as in a patient's own barcode."""
    if found := _BARCODE.search(name):
        return Barcode(re.sub(r"[._ ]", "-", found[1]).upper(), int(found[2]))
    if found := _WITHOUT_SEPARATORS.search(name):
        return Barcode(f"TCGA-{found[1]}-{found[2]}".upper(), int(found[3]))
    return None


def tissue_of(names: Iterable[str], description: str = "") -> Tissue:
    """The tissue of a sample.

    A barcode with a sample type of normal tissue counts more than any description, since normal tissue must never be used
    as the tumor. Otherwise the description decides, if there is one. A sample of unknown tissue is taken for a
    primary tumor.

    Args:
        names: What may hold its barcode: its name, its file's name, its id in a sample sheet.
        description: The words of a sample sheet on its tissue, and a bare sample type (`11`, or `11.0`).
    """
    codes = [barcode.sample_type for name in names if (barcode := find_barcode(name))]
    codes += [int(word) for word in re.findall(r"(?<!\S)(\d{2}|[1-9])(?:\.0+)?(?!\S)", description)]
    if any(code in _NORMAL_TYPES for code in codes) or _NORMAL_WORDS.search(description):
        return Tissue.NORMAL
    if any(code in _CULTURED_TYPES for code in codes):
        return Tissue.CULTURED
    if re.search("[A-Za-z]", description):
        is_later = "primary" not in description.lower() and _LATER_WORDS.search(description)
        return Tissue.LATER if is_later else Tissue.PRIMARY
    return Tissue.PRIMARY if all(code in _PRIMARY_TYPES for code in codes) else Tissue.LATER
