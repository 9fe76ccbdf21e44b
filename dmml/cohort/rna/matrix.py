"""An RNA table as its file has it, and the merging of genes that have the same symbol."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from dmml.cohort.rna.genes.gene_mapping import GeneMapping, name_genes
from dmml.cohort.rna.scale import LINEAR


@dataclass
class Matrix:
    """An RNA table as read: values, sample names, and gene names as in the source."""

    values: np.ndarray
    """(samples, genes) float64, NaN where unknown."""
    samples: list[str]
    genes: list[str]
    notes: dict[str, int] = field(default_factory=dict)
    """{reason: number of rows, columns or values that were skipped, dropped or changed}."""
    scale: str | None = None
    """Scale of the values if the format determines it, as featureCounts does; else None."""
    unit: str = ""
    """Format and scale in words: `featureCounts, TPM computed from counts and the lengths of genes`."""


def merge_symbols(matrix: Matrix, scale: str) -> tuple[pd.DataFrame, GeneMapping]:
    """Replace gene names by symbols, and merge genes with the same symbol.

    Their values are summed on linear scales and averaged on log2 and z-scores, where a sum has no meaning.

    Returns:
        (samples × symbols) float32, and a record of the genes renamed, merged and dropped.
    """
    symbols, mapping = name_genes(matrix.genes)
    has_symbol = np.array([symbol is not None for symbol in symbols], dtype=bool)
    names, group = np.unique(
        np.array([symbol for symbol in symbols if symbol is not None], dtype=object), return_inverse=True
    )
    values = matrix.values[:, has_symbol]
    if len(names) < values.shape[1]:
        is_finite = np.isfinite(values)
        total = np.zeros((len(values), len(names)))
        count = np.zeros((len(values), len(names)))
        np.add.at(total.T, group, np.where(is_finite, values, 0.0).T)
        np.add.at(count.T, group, is_finite.T.astype(float))
        merged = np.where(count > 0, total if scale in LINEAR else total / np.maximum(count, 1.0), np.nan)
    else:
        merged = values[:, np.argsort(group)]
    table = pd.DataFrame(merged.astype(np.float32), index=pd.Index(matrix.samples, dtype=object), columns=names)
    return table, mapping
