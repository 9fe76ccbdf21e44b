"""RNA of samples on one scale, with one column per gene symbol."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from dmml.cohort.rna.genes.gene_mapping import GeneMapping


class SymbolTable(NamedTuple):
    """RNA of the samples of one input, and how it was read."""

    table: pd.DataFrame
    """(samples × symbols) float32."""
    scale: str
    """One of `dmml.cohort.rna.scale.SCALES`."""
    notes: dict[str, int]
    """{reason: number of rows, columns or values that were merged, dropped or changed}."""
    genes: GeneMapping
    """Genes that were renamed, merged or dropped, by name."""
    unit: str = ""
    """Format and scale in words; empty if the format does not determine the scale."""
