"""The RNA formats that dmml reads. To add one, write a subclass in a module of this package and list it in `FORMATS`."""

from __future__ import annotations

from pathlib import Path

from dmml.cohort.rna.formats.feature_counts import FeatureCounts
from dmml.cohort.rna.formats.firebrowse import Firebrowse
from dmml.cohort.rna.formats.gct import Gct
from dmml.cohort.rna.formats.gene_table import GeneTable
from dmml.cohort.rna.formats.h5ad.h5ad_table import H5adTable
from dmml.cohort.rna.formats.parquet_table import ParquetTable
from dmml.cohort.rna.formats.rna_format import RnaFormat
from dmml.cohort.rna.formats.sample_files import QUANTIFICATIONS
from dmml.cohort.rna.formats.star_counts import STAR_COUNTS
from dmml.errors import InputError

FORMATS: tuple[RnaFormat, ...] = (
    # Binary formats come first: they are recognised by the ends of their names, and the others open files as text.
    ParquetTable(),
    H5adTable(),
    STAR_COUNTS,
    *QUANTIFICATIONS,
    Gct(),
    FeatureCounts(),
    Firebrowse(),
    GeneTable(),  # any other text table
)
"""All formats, in the order in which a file is tested for them."""


def format_of(path: Path) -> RnaFormat:
    """The format of a file.

    Raises:
        InputError: The file cannot be read, or has none of the formats.
    """
    for form in FORMATS:
        if form.matches(path):
            return form
    raise AssertionError("the last format matches every table and refuses all other files")


def format_in_folder(path: Path) -> RnaFormat | None:
    """The format of a file in a folder, among the formats that are searched for there; None for other files."""
    name = path.name.lower().removesuffix(".gz")
    for form in FORMATS:
        if form.folder_endings and name.endswith(form.folder_endings):
            try:
                if form.matches(path):
                    return form
            except InputError:
                return None
    return None


def titles_in_folders() -> str:
    """Names of the formats that are searched for in folders, for messages."""
    return ", ".join(form.title for form in FORMATS if form.folder_endings)
