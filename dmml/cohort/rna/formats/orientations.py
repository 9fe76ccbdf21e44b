"""Reads the values of an RNA table whose orientation is known: genes × samples, or patients × genes."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from dmml.cohort.rna.formats.cells import numbers_of, patient_ids
from dmml.cohort.rna.formats.table_header import check_sample_names
from dmml.cohort.rna.formats.unknown_names import without_gene_names
from dmml.cohort.rna.genes.gene_mapping import are_entrez, entrez_number
from dmml.cohort.rna.genes.gene_names import is_gene, share_of_genes
from dmml.cohort.rna.genes.summary_rows import is_statistic, kind_of_row
from dmml.cohort.rna.matrix import Matrix
from dmml.cohort.rna.samples.normal_tissue import without_normal_tissue
from dmml.cohort.rna.samples.sample_names import names_of_columns
from dmml.cohort.tables.id_columns import check_damaged
from dmml.cohort.tables.text_table import TextTable
from dmml.errors import InputError

MIN_SHARE_OF_GENES = 0.2
"""Minimum share of gene names on the axis of the genes."""
_NAME_COLUMNS = 3  # gene names are in one of the first columns
_ANNOTATION = {
    "entrez_gene_id", "entrezid", "entrez", "gene_type", "gene_biotype", "description", "length", "gene_length",
    "exon_length", "exonic_length", "transcript_length", "width", "chromosome", "chr", "chrom", "seqnames", "start", "end",
    "gene_start", "gene_end", "strand", "gc", "gc_content",
}  # fmt: skip


def patients_by_genes(table: TextTable, frame: pd.DataFrame, id_column: int) -> Matrix:
    """Read a table of patients × genes; columns that are not genes (age, stage, …) are skipped and counted.

    Args:
        table: Header of the table.
        frame: Rows of the table.
        id_column: Position of the column of patient ids.

    Raises:
        InputError: No column is a gene, no row is of a tumor, an id is damaged, or a value is not a number.
    """
    names = {i: name for i, name in enumerate(table.columns) if i != id_column}
    are_numbers = are_entrez(list(names.values()))
    is_gene_column = {i: bool(entrez_number(name)) if are_numbers else is_gene(name) for i, name in names.items()}
    if not any(is_gene_column.values()):
        raise without_gene_names(table, [])
    genes = [i for i, name in names.items() if is_gene_column[i] or _is_summary(name, frame.iloc[:, i])]
    frame, notes = of_tumors(table, frame, id_column)
    ids = patient_ids(table, frame, id_column)
    notes |= {"other_columns_passed_by": len(table.columns) - len(genes) - 1}
    return Matrix(numbers_of(table, frame, genes), ids, [table.columns[i] for i in genes], notes)


def genes_by_samples(
    table: TextTable, frame: pd.DataFrame, name_column: int, samples: Sequence[int] | None = None
) -> Matrix:
    """Read a table of genes × samples; other names, annotation, and sums over samples are skipped and counted.

    Args:
        table: Header of the table.
        frame: Rows of the table.
        name_column: Position of the column of gene names.
        samples: Positions of the samples if the format defines them; None for all columns that are not annotation.

    Raises:
        InputError: The table has no sample column or one without a name, an id is damaged, or a value is not a number.
    """
    if samples is None:
        samples = [
            i
            for i, name in enumerate(table.columns)
            if i != name_column
            and re.sub(r"[ .]", "_", name.lower()) not in _ANNOTATION
            and not _is_annotation(frame.iloc[:, i], i)
        ]
    statistics = [i for i in samples if is_statistic(table.columns[i])]
    samples = [i for i in samples if i not in statistics]
    if not samples:
        raise InputError(
            f"{table.path}: column {table.columns[name_column]!r} names genes, but no other column is a sample; check that "
            "the file is complete"
        )
    named = frame[frame.iloc[:, name_column].notna()]
    genes = [str(name).strip() for name in named.iloc[:, name_column]]
    values = numbers_of(table, named, samples).T
    names = [table.columns[i] for i in samples]
    check_sample_names(table, name_column, names)
    check_damaged(table.path, names, [f"column {i + 1} of the header" for i in samples])
    if "" in names:
        raise InputError(
            f"{table.path}: column {samples[names.index('')] + 1} has no name in the header; add the name of its sample"
        )
    notes = {
        "other_columns_passed_by": len(table.columns) - len(samples) - len(statistics) - 1,
        "rows_without_gene_name_dropped": len(frame) - len(named),
        "sums_over_samples_skipped": len(statistics),
    }
    return Matrix(values, names_of_columns(names), genes, notes)


def of_tumors(table: TextTable, frame: pd.DataFrame, id_column: int) -> tuple[pd.DataFrame, dict[str, int]]:
    """Keep the rows of tumors, and count the rows dropped: normal tissue, and sums and means over rows.

    Args:
        table: Header of the table, for messages.
        frame: Rows of the table, one per patient.
        id_column: Position of the column of patient ids.

    Raises:
        InputError: No row is of a tumor.
    """
    are_statistics = np.array([is_statistic(name) for name in frame.iloc[:, id_column]], dtype=bool)
    tumors, normal = without_normal_tissue(table, frame[~are_statistics])
    return tumors, {"sums_over_samples_skipped": int(are_statistics.sum())} | normal


def position_of_gene_names(frame: pd.DataFrame) -> tuple[int, float]:
    """Position of the column with the highest share of gene names among the first columns, and that share."""
    shares = [_share_of_names(frame.iloc[:, i]) for i in range(min(_NAME_COLUMNS, frame.shape[1]))]
    highest = max(shares, default=0.0)
    return (shares.index(highest) if shares else 0), highest


def _is_summary(name: str, column: pd.Series) -> bool:
    """Whether a column is a summary of reads. It is read like a gene, and later dropped with all summaries."""
    return kind_of_row(name) is not None and pd.api.types.is_numeric_dtype(column)


def _share_of_names(column: pd.Series) -> float:
    """Share of gene names among a column's first values; 0 if all are one word, such as the T of a TNM stage."""
    if pd.api.types.is_numeric_dtype(column):
        return 0.0
    names = [str(name).strip() for name in column.dropna().iloc[:2000]]
    return share_of_genes(names) if len(set(names)) > 1 or len(names) == 1 else 0.0


def _is_annotation(column: pd.Series, position: int) -> bool:
    """Whether a column is one of the first and holds words, not numbers: chromosome, biotype, a second name."""
    if position >= _NAME_COLUMNS or pd.api.types.is_numeric_dtype(column):
        return False
    return bool(pd.to_numeric(column.dropna().iloc[:100], errors="coerce").isna().mean() > 0.5)
