"""Reads featureCounts tables: position and length of each gene, and one column of read counts per alignment file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from dmml.cohort.rna.formats.annotated_table import read_annotated
from dmml.cohort.rna.formats.matrix import Matrix
from dmml.cohort.rna.genes.probes import ProbeMap
from dmml.cohort.rna.genes.summary_rows import kind_of_row
from dmml.cohort.tables import TextTable, read_rows
from dmml.errors import InputError

_ANNOTATION = ["geneid", "chr", "start", "end", "strand", "length"]
_SCALES = ("tpm", "counts")


def is_feature_counts(table: TextTable) -> bool:
    """Whether the first columns of a table are those of featureCounts."""
    return [name.lower() for name in table.columns[:6]] == _ANNOTATION


def read_feature_counts(table: TextTable, scale: str | None, probes: ProbeMap | None = None) -> Matrix:
    """Read the table as counts, or as TPM computed from counts and lengths.

    Columns of further attributes (`--extraAttributes gene_name`) are used only for gene names, and only if they hold
    more of them than `Geneid`.

    Args:
        table: Header of the table.
        scale: `tpm` (the default for None) or `counts`.
        probes: Map from `Geneid` to genes, if `Geneid` holds other names.

    Raises:
        InputError: Another scale is stated, the table counts exons, a count is negative, a value is not a number, or a
            length is not above 0 although TPM are computed.
    """
    if scale not in (None, *_SCALES):
        raise InputError(
            f"{table.path}: featureCounts gives counts, and with the lengths of genes TPM, not {scale}; state --scale tpm or "
            "counts, or leave it out"
        )
    frame = read_rows(table, names=0)
    if (repeated := frame.iloc[:, 0].duplicated()).any():
        raise InputError(
            f"{table.path}: {frame.iloc[:, 0][repeated].iloc[0]!r} is in several rows, so exons were counted; run "
            "featureCounts without -f, which counts genes"
        )
    samples = [i for i in range(6, len(table.columns)) if _is_numeric(frame.iloc[:, i])]
    if not samples:
        raise InputError(f"{table.path}: has no column of an alignment; give the table as featureCounts wrote it")
    names = [0, *(i for i in range(6, len(table.columns)) if i not in samples)]
    # The lengths are read like another sample, so that they stay aligned with their genes.
    matrix = read_annotated(table, frame, names, [5, *samples], probes)
    lengths = matrix.values[0]
    matrix = replace(matrix, values=matrix.values[1:], samples=matrix.samples[1:])
    if np.nanmin(matrix.values, initial=0.0) < 0:
        raise InputError(f"{table.path}: has negative counts; give the table as featureCounts wrote it")
    if scale == "counts":
        return replace(matrix, scale="counts", unit="featureCounts, counts")
    return _to_tpm(matrix, lengths, table)


def _is_numeric(column: pd.Series) -> bool:
    return bool(pd.to_numeric(column, errors="coerce").notna().sum() >= column.notna().sum() / 2)


def _to_tpm(matrix: Matrix, lengths: np.ndarray, table: TextTable) -> Matrix:
    """Divide reads by length and scale to a sum of one million per sample, not counting spike-ins and summaries."""
    if (wrong := ~(lengths > 0)).any():
        raise InputError(
            f"{table.path}: gene {matrix.genes[int(wrong.argmax())]!r} has no length above 0 in column "
            f"{table.columns[5]!r}; give the table as featureCounts wrote it, or state --scale counts"
        )
    rate = matrix.values / lengths
    genes = np.array([kind_of_row(gene) is None for gene in matrix.genes])
    total = np.nansum(rate[:, genes], axis=1, keepdims=True)
    values = 1e6 * rate / np.where(total > 0, total, 1.0)
    return replace(
        matrix, values=values, scale="tpm", unit="featureCounts, TPM computed from counts and the lengths of genes"
    )
