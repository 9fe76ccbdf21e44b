"""Reads RNA tables in no particular format: genes × samples or patients × genes, possibly among other columns."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd

from dmml.cohort.rna.formats.cells import numbers_of, patient_ids
from dmml.cohort.rna.formats.orientations import (
    MIN_SHARE_OF_GENES,
    genes_by_samples,
    of_tumors,
    patients_by_genes,
    position_of_gene_names,
)
from dmml.cohort.rna.formats.rna_format import ReadOptions, TableFormat
from dmml.cohort.rna.formats.series_matrix import is_series_matrix, open_series_matrix, read_series_values
from dmml.cohort.rna.formats.table_header import check_header, open_rna_table
from dmml.cohort.rna.formats.unknown_names import check_values_in_header, examples, without_gene_names
from dmml.cohort.rna.genes.gene_mapping import are_entrez
from dmml.cohort.rna.genes.gene_names import share_of_genes
from dmml.cohort.rna.genes.probes import ProbeMap
from dmml.cohort.rna.matrix import Matrix
from dmml.cohort.rna.other_measurements import check_columns, check_names, check_suffix
from dmml.cohort.rna.samples.sample_names import name_of_file
from dmml.cohort.tables.text_table import TextTable, open_table, read_rows, require_column
from dmml.errors import InputError

_NOT_A_SAMPLE = re.compile(
    r"(raw|expected|read|est)?[ _.]?(counts?|reads)|tpm|fpkm|rpkm|values?|expression", re.IGNORECASE
)
"""Headers of a single column of values that do not name the sample, so that the file name does."""


class GeneTable(TableFormat):
    """A CSV or TSV in either orientation, optionally compressed, or a GEO series matrix."""

    key, title = "matrix", "a table of genes"
    takes_patient_id = True

    def matches(self, path: Path) -> bool:
        """Every text table matches; other files are refused."""
        open_table(path)
        return True

    def read(self, path: Path, options: ReadOptions) -> Matrix:
        """Read the table; see `read_gene_table`."""
        matrix = read_gene_table(path, options)
        if len(matrix.samples) == 1 and _NOT_A_SAMPLE.fullmatch(matrix.samples[0]):
            matrix = replace(matrix, samples=[name_of_file(path, options.mapped_samples)])
        return matrix


def read_gene_table(path: Path, options: ReadOptions, opened: tuple[TextTable, pd.DataFrame] | None = None) -> Matrix:
    """Read an RNA table in either orientation.

    Without `options.patient_id`, the orientation is detected from the axis that holds gene names.

    Args:
        path: CSV or TSV, optionally zipped or gzipped, or a GEO series matrix.
        options: What the user states about it.
        opened: Header and rows of a table that is not text (see `open_parquet_table`), with the names in the first column.

    Raises:
        InputError: No axis holds gene names, a column is missing, or a value is not a number.
    """
    table = opened[0] if opened else open_rna_table(path)
    check_columns(path, table.columns)
    platform = None
    if opened is None and is_series_matrix(table):
        table, platform = open_series_matrix(path)
        table, frame = read_series_values(table)
    elif options.suffix is not None:
        return _read_suffixed_columns(table, options.patient_id, options.suffix, opened)
    elif options.patient_id is not None:
        if options.patient_id not in table.columns:
            check_values_in_header(table, [])
        require_column(table, options.patient_id, "expression: patient_id")
        position = table.columns.index(options.patient_id)
        return patients_by_genes(table, opened[1] if opened else read_rows(table, names=position), position)
    else:
        check_header(table)
        frame = opened[1] if opened else read_rows(table, names=0)
    if frame.empty:
        raise InputError(f"{path}: has a header but no row; check that it is an RNA table")
    if options.probes is not None:
        return _read_probes(table, frame, options.probes)
    return _read_detected_orientation(table, frame, platform)


def _read_detected_orientation(table: TextTable, frame: pd.DataFrame, platform: str | None) -> Matrix:
    """Read a table with the genes on the axis whose names are more often genes.

    Args:
        table: Header of the table.
        frame: Rows of the table.
        platform: Platform of a GEO series matrix, for the message.
    """
    share_in_header = share_of_genes(table.columns[1:])
    name_column, share_in_rows = position_of_gene_names(frame)
    if max(share_in_header, share_in_rows) < MIN_SHARE_OF_GENES:
        if are_entrez(list(frame.iloc[:, 0].dropna())):
            return genes_by_samples(table, frame, 0)
        if are_entrez(table.columns[1:]):
            check_values_in_header(table, list(frame.iloc[:, 0]))
            return patients_by_genes(table, frame, 0)
        raise without_gene_names(table, list(frame.iloc[:, 0]), platform)
    if share_in_rows >= share_in_header:
        return genes_by_samples(table, frame, name_column)
    return patients_by_genes(table, frame, 0)


def _read_probes(table: TextTable, frame: pd.DataFrame, probes: ProbeMap) -> Matrix:
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
            "give the annotation of this table's platform with --probes"
        )
    renamed = (
        frame.assign(**{frame.columns[0]: symbols})
        if frame.columns[0]
        else frame.set_axis(["name", *frame.columns[1:]], axis=1).assign(name=symbols)
    )
    matrix = genes_by_samples(table, renamed[[symbol is not None for symbol in symbols]], 0)
    return Matrix(matrix.values, matrix.samples, matrix.genes, matrix.notes | notes)


def _read_suffixed_columns(
    table: TextTable, patient_id: str | None, suffix: str, opened: tuple[TextTable, pd.DataFrame] | None
) -> Matrix:
    """Read a table of patients × columns of several kinds, of which those with the suffix are genes."""
    if patient_id is None:
        raise InputError(
            f"{table.path}: with a suffix, the column of the patient ids must be named, too; add patient_id (--patient-id)"
        )
    require_column(table, patient_id, "expression: patient_id")
    check_suffix(table.path, suffix)
    columns = [name for name in table.columns if name.endswith(suffix) and name != suffix]
    if not columns:
        raise InputError(
            f"{table.path}: no column ends with {suffix!r} (expression: suffix); "
            f"its columns are: {examples(table.columns, 8)} ({len(table.columns)} in all)"
        )
    others = [name for name in table.columns if name not in columns and table.columns.count(name) == 1]
    wanted = [patient_id, *columns, *(name for name in others if name != patient_id)]
    frame = opened[1][wanted] if opened else read_rows(table, wanted, names=0)
    frame, notes = of_tumors(table, frame, 0)
    ids = patient_ids(table, frame, 0)
    values = numbers_of(table, frame, range(1, len(columns) + 1))
    notes |= {"other_columns_passed_by": len(table.columns) - len(columns) - 1}
    return Matrix(values, ids, [name[: -len(suffix)] for name in columns], notes)
