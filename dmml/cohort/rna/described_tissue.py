"""Samples of normal tissue that a table of RNA itself describes as such, in a column or line beside the values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from dmml.cohort.rna.tissue import DROPPED, describes_tissue, tissue_of
from dmml.cohort.tables import TextTable
from dmml.errors import InputError


def without_normal(table: TextTable, frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Rows of tumors, where a column such as `sample_type` says which these are, and how many others are left out.

    Args:
        table: The header, of all columns or of those in the frame.
        frame: The rows.

    Raises:
        InputError: No row is of a tumor.
    """
    columns = [i for i, name in enumerate(frame.columns) if describes_tissue(str(name), _words(frame.iloc[:, i]))]
    if not columns:
        return frame, {}
    described = frame.iloc[:, columns].astype(str).agg(" ".join, axis=1)
    kept, counts = tumors(table, list(described))
    return frame.iloc[kept], counts


def tumors(table: TextTable, descriptions: Sequence[str]) -> tuple[list[int], dict[str, int]]:
    """Positions of the samples of tumors, and how many others there are, by what they are.

    Args:
        table: For the message.
        descriptions: What is said of each sample.

    Raises:
        InputError: No sample is of a tumor.
    """
    tissues = [tissue_of([], words) for words in descriptions]
    kept = [i for i, tissue in enumerate(tissues) if tissue.is_tumor]
    if not kept:
        raise InputError(
            f"{table.path}: describes all of its samples as normal tissue or cell lines; give RNA of tumors"
        )
    return kept, dict(Counter(DROPPED[tissue] for tissue in tissues if not tissue.is_tumor))


def _words(column: pd.Series) -> list[str]:
    """The values of a column of text."""
    if pd.api.types.is_numeric_dtype(column):
        return []
    return [str(word) for word in column.dropna().unique()]
