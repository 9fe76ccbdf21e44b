"""Reads RNA tables: genes × samples or patients × genes, with symbols or Ensembl ids, possibly among other columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from dmml.cohort.id_columns import check_damaged
from dmml.cohort.rna.formats.cells import numbers_of, patient_ids
from dmml.cohort.rna.formats.table_header import are_values, check_header, check_sample_names, open_rna_table
from dmml.cohort.rna.genes.gene_mapping import GeneAccount, are_entrez, entrez_number, name_genes
from dmml.cohort.rna.genes.gene_names import is_gene, share_of_genes
from dmml.cohort.rna.genes.probes import ProbeMap, is_series_matrix, open_series_matrix, series_values, unknown_names
from dmml.cohort.rna.genes.summary_rows import is_statistic, kind_of_row
from dmml.cohort.rna.other_measurements import check_columns, check_names, check_suffix
from dmml.cohort.rna.samples.normal_tissue import without_normal
from dmml.cohort.rna.samples.sample_names import names_of_columns
from dmml.cohort.rna.scale import LINEAR
from dmml.cohort.tables import TextTable, read_rows, require_column
from dmml.errors import InputError

_FEWEST_KNOWN = 0.2  # minimum share of gene names on the axis of the genes
_NAME_COLUMNS = 3  # gene names are in one of the first columns
_ANNOTATION = {
    "entrez_gene_id", "entrezid", "entrez", "gene_type", "gene_biotype", "description", "length", "gene_length",
    "exon_length", "exonic_length", "transcript_length", "width", "chromosome", "chr", "chrom", "seqnames", "start", "end",
    "gene_start", "gene_end", "strand", "gc", "gc_content",
}  # fmt: skip


@dataclass
class Matrix:
    """An RNA table as read: values, sample names, and gene names as in the source."""

    values: np.ndarray
    """(samples, genes) float64, NaN where unknown."""
    samples: list[str]
    genes: list[str]
    notes: dict[str, int] = field(default_factory=dict)
    scale: str | None = None
    """Scale of the values if the format determines it, as featureCounts does; else None."""
    unit: str = ""
    """Format and scale in words: `featureCounts, TPM computed from counts and the lengths of genes`."""


def read_matrix(
    path: str | Path,
    patient_id: str | None = None,
    suffix: str | None = None,
    probes: ProbeMap | None = None,
    opened: tuple[TextTable, pd.DataFrame] | None = None,
) -> Matrix:
    """Read an RNA table in either orientation.

    Args:
        path: CSV or TSV, optionally zipped or gzipped, or a GEO series matrix.
        patient_id: Column of the patient ids, if rows are patients. With None, the orientation is detected from the
            axis that holds gene names.
        suffix: Suffix of the gene columns in a wider table (`_rnaseq`); other columns are skipped.
        probes: Map from row names to genes, if the names are not genes.
        opened: Header and rows of a table that is not text (see `open_parquet`), with the names in the first column.

    Raises:
        InputError: No axis holds gene names, a column is missing, or a value is not a number.
    """
    table = opened[0] if opened else open_rna_table(path)
    check_columns(path, table.columns)
    platform = None
    if opened is None and is_series_matrix(table):
        table, platform = open_series_matrix(Path(path))
        table, frame = series_values(table)
    elif suffix is not None:
        return _read_wide(table, patient_id, suffix, opened)
    elif patient_id is not None:
        if patient_id not in table.columns:
            _check_values_in_header(table, [])
        require_column(table, patient_id, "expression: patient_id")
        position = table.columns.index(patient_id)
        return _patients_by_genes(table, opened[1] if opened else read_rows(table, names=position), position)
    else:
        check_header(table)
        frame = opened[1] if opened else read_rows(table, names=0)
    if frame.empty:
        raise InputError(f"{path}: has a header but no row; check that it is an RNA table")
    if probes is not None:
        return _mapped(table, frame, probes)
    header = share_of_genes(table.columns[1:])
    name_shares = [_share_of_names(frame.iloc[:, i]) for i in range(min(_NAME_COLUMNS, frame.shape[1]))]
    rows = max(name_shares, default=0.0)
    if max(header, rows) < _FEWEST_KNOWN:
        if are_entrez(list(frame.iloc[:, 0].dropna())):
            return genes_by_samples(table, frame, 0)
        if are_entrez(table.columns[1:]):
            _check_values_in_header(table, list(frame.iloc[:, 0]))
            return _patients_by_genes(table, frame, 0)
        raise InputError(_without_gene_names(table, frame, platform))
    if rows >= header:
        return genes_by_samples(table, frame, name_shares.index(rows))
    return _patients_by_genes(table, frame, 0)


def _without_gene_names(table: TextTable, frame: pd.DataFrame, platform: str | None) -> str:
    """Message about a table without gene names; raises a more specific error if the cause is recognised."""
    names = list(frame.iloc[:, 0]) if frame.shape[1] else []
    check_names(table.path, names)
    check_names(table.path, table.columns[1:])
    _check_values_in_header(table, names)
    return unknown_names(table.path, table.columns[1:], names, platform)


def _check_values_in_header(table: TextTable, names: Sequence[str]) -> None:
    if are_values(table.columns, names):
        raise InputError(
            f"{table.path}: has no header: its first line ({_examples(table.columns)}) holds values; add a first line that "
            "names the columns"
        )


def _mapped(table: TextTable, frame: pd.DataFrame, probes: ProbeMap) -> Matrix:
    """Read a table of probes × samples, with the probes in the first column."""
    check_names(table.path, list(frame.iloc[:, 0]))
    if table.columns[0] in probes.symbols:
        raise InputError(
            f"{table.path}: has no header: its first line holds the probe {table.columns[0]!r}; add a first line that names "
            "the columns (probe, then the samples)"
        )
    symbols, notes = probes.rename(list(frame.iloc[:, 0]))
    if not notes["probes_mapped"]:
        raise InputError(
            f"{table.path}: none of its rows ({', '.join(map(str, frame.iloc[:3, 0]))}, …) is in the map of probes; "
            "give the annotation of this table's platform"
        )
    kept = (
        frame.assign(**{frame.columns[0]: symbols})
        if frame.columns[0]
        else frame.set_axis(["name", *frame.columns[1:]], axis=1).assign(name=symbols)
    )
    read = genes_by_samples(table, kept[[symbol is not None for symbol in symbols]], 0)
    return Matrix(read.values, read.samples, read.genes, read.notes | notes)


def merge_symbols(matrix: Matrix, scale: str) -> tuple[pd.DataFrame, GeneAccount]:
    """Replace gene names by symbols, and merge genes with the same symbol.

    Their values are summed on linear scales and averaged on log2 and z-scores, where a sum has no meaning.

    Returns:
        (samples × symbols) float32, and a record of the genes renamed, merged and dropped.
    """
    symbols, account = name_genes(matrix.genes)
    kept = np.array([symbol is not None for symbol in symbols], dtype=bool)
    names, group = np.unique(
        np.array([symbol for symbol in symbols if symbol is not None], dtype=object), return_inverse=True
    )
    values = matrix.values[:, kept]
    if len(names) < values.shape[1]:
        known = np.isfinite(values)
        total = np.zeros((len(values), len(names)))
        count = np.zeros((len(values), len(names)))
        np.add.at(total.T, group, np.where(known, values, 0.0).T)
        np.add.at(count.T, group, known.T.astype(float))
        merged = np.where(count > 0, total if scale in LINEAR else total / np.maximum(count, 1.0), np.nan)
    else:
        merged = values[:, np.argsort(group)]
    table = pd.DataFrame(merged.astype(np.float32), index=pd.Index(matrix.samples, dtype=object), columns=names)
    return table, account


def _read_wide(
    table: TextTable, patient_id: str | None, suffix: str, opened: tuple[TextTable, pd.DataFrame] | None
) -> Matrix:
    if patient_id is None:
        raise InputError(f"{table.path}: expression with a suffix needs patient_id too, the column of the patient ids")
    require_column(table, patient_id, "expression: patient_id")
    check_suffix(table.path, suffix)
    columns = [name for name in table.columns if name.endswith(suffix) and name != suffix]
    if not columns:
        raise InputError(
            f"{table.path}: no column ends with {suffix!r} (expression: suffix); "
            f"there are: {_examples(table.columns, 8)} ({len(table.columns)} in all)"
        )
    others = [name for name in table.columns if name not in columns and table.columns.count(name) == 1]
    wanted = [patient_id, *columns, *(name for name in others if name != patient_id)]
    frame = opened[1][wanted] if opened else read_rows(table, wanted, names=0)
    frame, passed = _of_tumors(table, frame, 0)
    ids = patient_ids(table, frame, 0)
    values = numbers_of(table, frame, range(1, len(columns) + 1))
    passed |= {"other_columns_passed_by": len(table.columns) - len(columns) - 1}
    return Matrix(values, ids, [name[: -len(suffix)] for name in columns], passed)


def _patients_by_genes(table: TextTable, frame: pd.DataFrame, id_column: int) -> Matrix:
    """Read a table of patients × genes; columns that are not known genes (age, stage, …) are skipped and counted."""
    numbered = are_entrez([name for i, name in enumerate(table.columns) if i != id_column])
    known = entrez_number if numbered else is_gene
    if not any(known(name) for i, name in enumerate(table.columns) if i != id_column):
        raise InputError(_without_gene_names(table, frame.iloc[:, :0], None))
    genes = [
        i
        for i, name in enumerate(table.columns)
        if i != id_column and (known(name) or _is_summary(name, frame.iloc[:, i]))
    ]
    frame, passed = _of_tumors(table, frame, id_column)
    ids = patient_ids(table, frame, id_column)
    passed |= {"other_columns_passed_by": len(table.columns) - len(genes) - 1}
    return Matrix(numbers_of(table, frame, genes), ids, [table.columns[i] for i in genes], passed)


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
            f"{table.path}: genes stand in column {table.columns[name_column]!r}, but no sample beside them"
        )
    named = frame[frame.iloc[:, name_column].notna()]
    genes = [str(name).strip() for name in named.iloc[:, name_column]]
    values = numbers_of(table, named, samples).T
    names = [table.columns[i] for i in samples]
    check_sample_names(table, name_column, names)
    check_damaged(table.path, names, [f"column {i + 1} of the header" for i in samples])
    if "" in names:
        raise InputError(
            f"{table.path}: column {samples[names.index('')] + 1} has no sample name in the header; name it"
        )
    passed = {
        "other_columns_passed_by": len(table.columns) - len(samples) - len(statistics) - 1,
        "rows_without_gene_name_dropped": len(frame) - len(named),
        "sums_over_samples_skipped": len(statistics),
    }
    return Matrix(values, names_of_columns(names), genes, passed)


def _of_tumors(table: TextTable, frame: pd.DataFrame, id_column: int) -> tuple[pd.DataFrame, dict[str, int]]:
    """Keep the rows of tumors, and count the rows dropped: normal tissue, and sums and means over rows."""
    statistics = np.array([is_statistic(name) for name in frame.iloc[:, id_column]], dtype=bool)
    kept, normal = without_normal(table, frame[~statistics])
    return kept, {"sums_over_samples_skipped": int(statistics.sum())} | normal


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


def _examples(names: Sequence[object] | pd.Series, count: int = 3) -> str:
    shown = [str(name) for name in list(names)[:count]]
    return ", ".join(shown) + (", …" if len(names) > count else "")
