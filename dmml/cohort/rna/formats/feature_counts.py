"""Reads featureCounts tables: position and length of each gene, and one column of read counts per alignment file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from dmml.cohort.rna.formats.annotated_table import read_annotated
from dmml.cohort.rna.formats.rna_format import ReadOptions, TableFormat
from dmml.cohort.rna.genes.summary_rows import kind_of_row
from dmml.cohort.rna.matrix import Matrix
from dmml.cohort.tables.text_files import open_text
from dmml.cohort.tables.text_table import TextTable, open_table, read_rows
from dmml.errors import InputError

_ANNOTATION = ["geneid", "chr", "start", "end", "strand", "length"]
_SCALES = ("tpm", "counts")


class FeatureCounts(TableFormat):
    """Position and length of each gene, and reads per alignment."""

    key, title = "featurecounts", "featureCounts"
    folder_endings = (".txt", ".tsv", ".counts", ".tab")

    def matches(self, path: Path) -> bool:
        """Whether the first columns of a table are those of featureCounts.

        Raises:
            InputError: The file is not a table, or it is the summary that featureCounts writes next to its table.
        """
        _check_summary(path)
        return [name.lower() for name in open_table(path).columns[:6]] == _ANNOTATION

    def read(self, path: Path, options: ReadOptions) -> Matrix:
        """Read the table as counts, or as TPM (the default) computed from counts and lengths.

        Columns of further attributes (`--extraAttributes gene_name`) are used only for gene names, and only if they
        hold more of them than `Geneid`.

        Raises:
            InputError: Another scale is stated, the table counts exons, a count is negative, a value is not a number,
                or a length is not above 0 although TPM are computed.
        """
        if options.scale not in (None, *_SCALES):
            raise InputError(
                f"{path}: featureCounts gives counts, and TPM computed from the lengths of genes, but not {options.scale}; use "
                "--scale tpm or --scale counts, or leave it out"
            )
        table = open_table(path)
        frame = read_rows(table, names=0)
        if (is_repeated := frame.iloc[:, 0].duplicated()).any():
            raise InputError(
                f"{path}: {frame.iloc[:, 0][is_repeated].iloc[0]!r} is in several rows, so exons were counted; run "
                "featureCounts without -f, so that it counts genes"
            )
        samples = [i for i in range(6, len(table.columns)) if _is_numeric(frame.iloc[:, i])]
        if not samples:
            raise InputError(f"{path}: has no column of an alignment; give the table as featureCounts wrote it")
        names = [0, *(i for i in range(6, len(table.columns)) if i not in samples)]
        # The lengths are read like another sample, so that they stay aligned with their genes.
        matrix = read_annotated(table, frame, names, [5, *samples], options.probes)
        lengths = matrix.values[0]
        matrix = replace(matrix, values=matrix.values[1:], samples=matrix.samples[1:])
        if np.nanmin(matrix.values, initial=0.0) < 0:
            raise InputError(f"{path}: has negative counts; give the table as featureCounts wrote it")
        if options.scale == "counts":
            return replace(matrix, scale="counts", unit="featureCounts, counts")
        return _to_tpm(matrix, lengths, table)


def _check_summary(path: Path) -> None:
    with open_text(path) as text:
        if text.readline().split("\t")[0].strip() == "Status" and text.readline().startswith("Assigned\t"):
            raise InputError(
                f"{path}: is the summary of reads that featureCounts writes next to its table; give the table of counts"
            )


def _is_numeric(column: pd.Series) -> bool:
    return bool(pd.to_numeric(column, errors="coerce").notna().sum() >= column.notna().sum() / 2)


def _to_tpm(matrix: Matrix, lengths: np.ndarray, table: TextTable) -> Matrix:
    """Divide reads by length and scale to a sum of one million per sample, not counting spike-ins and summaries."""
    if (without_length := ~(lengths > 0)).any():
        raise InputError(
            f"{table.path}: gene {matrix.genes[int(without_length.argmax())]!r} has no length above 0 in column "
            f"{table.columns[5]!r}; give the table as featureCounts wrote it, or use --scale counts"
        )
    rate = matrix.values / lengths
    is_gene_row = np.array([kind_of_row(gene) is None for gene in matrix.genes])
    total = np.nansum(rate[:, is_gene_row], axis=1, keepdims=True)
    values = 1e6 * rate / np.where(total > 0, total, 1.0)
    return replace(
        matrix, values=values, scale="tpm", unit="featureCounts, TPM computed from counts and the lengths of genes"
    )
