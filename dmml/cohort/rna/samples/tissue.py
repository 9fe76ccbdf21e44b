"""Determines the tissue of a sample from the sample type in a TCGA or TARGET barcode, or from a sample sheet."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

# TCGA-<site>-<participant>-<sample type><vial>-…, also with dots (R) or underscores, in lower case, or in a file name.
_BARCODE = re.compile(
    r"(?<![A-Za-z0-9])(TCGA[-._ ][A-Za-z0-9]{2}[-._ ][A-Za-z0-9]{4}|TARGET[-._ ]\d{2}[-._ ][A-Za-z]{6})"
    r"[-._ ](\d{2})[A-WYZ]?(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_WITHOUT_SEPARATORS = re.compile(
    r"(?<![A-Za-z0-9])TCGA([A-Za-z0-9]{2})([A-Za-z0-9]{4})(\d{2})[A-WYZ]?(?:\d{2}[A-Za-z][A-Za-z0-9]*)?(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_PRIMARY_TYPES = {1, 3, 5, 9}  # 02, 04 and 40 are recurrences, 06 and 07 metastases
_NORMAL_TYPES = range(10, 30)  # 10 to 19 are normal tissue, 20 to 29 control analytes
_CULTURED_TYPES = range(50, 100)  # cell lines and xenografts
_NORMAL_WORDS = re.compile(
    r"\b(?:normal|control|peritumou?ral|adjacent|healthy|non[- ]?tumou?r)"
    r"|(?<!\S)(?:N|NAT|NT|NB|NBC|NEBV|NBM|CELLC)(?!\S)",  # letter codes of CPTAC and TCGA
    re.IGNORECASE,
)
_LATER_WORDS = re.compile(r"recurr|metast|(?<!\S)(?:TR|TM|TAM|TRBM)(?!\S)", re.IGNORECASE)


_TISSUE_COLUMNS = {"sample_type", "sample_type_id", "tissue_type", "tissue", "tumor_descriptor", "shortlettercode"}
"""Names of columns in sheets of the GDC portal (before and since 2024), cBioPortal and TCGAbiolinks."""
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
        """Whether samples of this tissue describe the patient's tumor."""
        return self in (Tissue.PRIMARY, Tissue.LATER)


REASONS_TO_DROP = {
    Tissue.NORMAL: "normal_samples_dropped",
    Tissue.CULTURED: "samples_of_cell_lines_or_xenografts_dropped",
}
"""{tissue other than a tumor: key of its count in the provenance}"""


class Barcode(NamedTuple):
    """The barcode of a sample, an aliquot or a slide."""

    patient: str
    """Patient id in the GDC's spelling: upper case, dashes."""
    sample_type: int


def spellings_of_barcode(name: str) -> list[str]:
    """A TCGA barcode in the GDC's spelling, and cut to the sample with and without its vial; [] for other names."""
    if not re.match(r"TCGA[-._ ]", name, re.IGNORECASE):
        return []
    spelled = re.sub(r"[._ ]", "-", name).upper()
    return list(dict.fromkeys([spelled, spelled[:16], spelled[:15]])) if find_barcode(name) else [spelled]


def describes_tissue(name: str, words: Iterable[str]) -> bool:
    """Whether a column describes tissue, by its name or because it holds only words for tissue, including normal."""
    words = set(words)
    if name.strip().lower().replace(" ", "_") in _TISSUE_COLUMNS:
        return True
    if words <= {"T", "N"}:
        return len(words) == 2
    return all(map(_TISSUE.fullmatch, words)) and any(map(_NORMAL_WORDS.search, words))


def find_barcode(name: str) -> Barcode | None:
    """Find the first barcode with a sample type in a name; None if there is none, as in the barcode of a patient."""
    if match := _BARCODE.search(name):
        return Barcode(re.sub(r"[._ ]", "-", match[1]).upper(), int(match[2]))
    if match := _WITHOUT_SEPARATORS.search(name):
        return Barcode(f"TCGA-{match[1]}-{match[2]}".upper(), int(match[3]))
    return None


def tissue_of(names: Iterable[str], description: str = "") -> Tissue:
    """Determine the tissue of a sample.

    Normal tissue in a barcode or in the description decides over everything else, since normal tissue must never be
    used as the tumor; next come the sample types of cell lines and xenografts, then the words of the description, then
    the other sample types. A sample of unknown tissue is regarded as a primary tumor.

    Args:
        names: Names that may contain the barcode: the sample's name, its file name, its id in a sample sheet.
        description: Description of the tissue in a sample sheet, which may include a sample type (`11`, or `11.0`).
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
