"""Leaves out samples that an RNA table itself describes as normal tissue, in a column or a line next to the values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from dmml.cohort.rna.samples.tissue import REASONS_TO_DROP, describes_tissue, tissue_of
from dmml.cohort.tables.text_table import TextTable
from dmml.errors import InputError


def without_normal_tissue(table: TextTable, frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Keep the rows of tumors if a column such as `sample_type` describes the tissue, and count the others by reason.

    Args:
        table: Header of the table, for messages.
        frame: Rows of the table.

    Raises:
        InputError: No row is of a tumor.
    """
    columns = [i for i, name in enumerate(frame.columns) if describes_tissue(str(name), _words(frame.iloc[:, i]))]
    if not columns:
        return frame, {}
    descriptions = frame.iloc[:, columns].astype(str).agg(" ".join, axis=1)
    kept, counts = select_tumors(table, list(descriptions))
    return frame.iloc[kept], counts


def select_tumors(table: TextTable, descriptions: Sequence[str]) -> tuple[list[int], dict[str, int]]:
    """Positions of the samples of tumors, and counts of the others by kind of tissue.

    Args:
        table: Header of the table, for the message.
        descriptions: Description of the tissue of each sample.

    Raises:
        InputError: No sample is of a tumor.
    """
    tissues = [tissue_of([], description) for description in descriptions]
    kept = [i for i, tissue in enumerate(tissues) if tissue.is_tumor]
    if not kept:
        raise InputError(
            f"{table.path}: describes all of its samples as normal tissue or cell lines; give a table of tumors"
        )
    return kept, dict(Counter(REASONS_TO_DROP[tissue] for tissue in tissues if not tissue.is_tumor))


def _words(column: pd.Series) -> list[str]:
    """Unique values of a column of text; empty for a column of numbers."""
    if pd.api.types.is_numeric_dtype(column):
        return []
    return [str(word) for word in column.dropna().unique()]
