"""RNA tables in one file: genes × samples or patients × genes, symbols or Ensembl ids, alone or in a wider table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from dmml.cohort.gene_account import GeneAccount, are_entrez, entrez_number, name_genes
from dmml.cohort.gene_names import is_gene, share_of_genes
from dmml.cohort.probes import ProbeMap, is_series_matrix, open_series_matrix, series_values, unknown_names
from dmml.cohort.scale import LINEAR
from dmml.cohort.tables import TextTable, no_number, open_table, read_rows, require_column
from dmml.errors import InputError

_FEWEST_KNOWN = 0.2  # share of names that must be genes before an axis is taken for the genes
_NAME_COLUMNS = 3  # gene names stand in one of the first columns, or nowhere
_ANNOTATION = {
    "entrez_gene_id",
    "entrezid",
    "entrez",
    "gene_type",
    "description",
    "length",
    "chromosome",
    "start",
    "end",
}


@dataclass
class Matrix:
    """A table as read: numbers, the samples' names and the names that its source gives the genes."""

    values: np.ndarray
    """(samples, genes) float64, NaN where unknown"""
    samples: list[str]
    genes: list[str]
    notes: dict[str, int] = field(default_factory=dict)


def read_matrix(
    path: str | Path,
    patient_id: str | None = None,
    suffix: str | None = None,
    probes: ProbeMap | None = None,
    opened: tuple[TextTable, pd.DataFrame] | None = None,
) -> Matrix:
    """Read an RNA table, whichever way round it stands.

    Args:
        path: CSV or TSV, also zipped or gzipped; a series matrix of GEO.
        patient_id: Column of the patient ids, which says that rows are patients. None: the axis that holds gene names
            is found out.
        suffix: What ends the names of the gene columns in a wider table (`_rnaseq`); other columns are passed by.
        probes: What the rows' names mean, where they are no genes.
        opened: The table's columns and rows where it is no text (see `open_parquet`), its names in the first column.

    Raises:
        InputError: No axis holds gene names, a column is missing, or a value is no number.
    """
    table = opened[0] if opened else open_table(path)
    platform = None
    if opened is None and is_series_matrix(table):
        table, platform = open_series_matrix(Path(path))
        table, frame = series_values(table)
    elif suffix is not None:
        return _read_wide(table, patient_id, suffix, opened)
    elif patient_id is not None:
        require_column(table, patient_id, "expression: patient_id")
        position = table.columns.index(patient_id)
        return _patients_by_genes(table, opened[1] if opened else read_rows(table, names=position), position)
    else:
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
            return _genes_by_samples(table, frame, 0)
        if are_entrez(table.columns[1:]):
            return _patients_by_genes(table, frame, 0)
        names = frame.iloc[:, 0] if frame.shape[1] else []
        raise InputError(unknown_names(Path(path), table.columns[1:], list(names), platform))
    if rows >= header:
        return _genes_by_samples(table, frame, name_shares.index(rows))
    return _patients_by_genes(table, frame, 0)


def _mapped(table: TextTable, frame: pd.DataFrame, probes: ProbeMap) -> Matrix:
    """Genes × samples whose first column holds probes."""
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
    read = _genes_by_samples(table, kept[[symbol is not None for symbol in symbols]], 0)
    return Matrix(read.values, read.samples, read.genes, read.notes | notes)


def merge_symbols(matrix: Matrix, scale: str) -> tuple[pd.DataFrame, GeneAccount]:
    """Name genes by their symbols, each once.

    Several rows of one symbol are summed on linear scales and averaged on log2 and z-scores, where a sum has no meaning.

    Returns:
        (samples × symbols) float32, and what was renamed, merged and dropped.
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
    columns = [name for name in table.columns if name.endswith(suffix) and name != suffix]
    if not columns:
        raise InputError(
            f"{table.path}: no column ends with {suffix!r} (expression: suffix); "
            f"there are: {_examples(table.columns, 8)} ({len(table.columns)} in all)"
        )
    wanted = [patient_id, *columns]
    frame = opened[1][wanted] if opened else read_rows(table, wanted, names=0)
    ids = _names(table, frame, 0)
    values = _numbers(table, frame, range(1, frame.shape[1]))
    passed = {"other_columns_passed_by": len(table.columns) - len(columns) - 1}
    return Matrix(values, ids, [name[: -len(suffix)] for name in columns], passed)


def _patients_by_genes(table: TextTable, frame: pd.DataFrame, id_column: int) -> Matrix:
    """Rows are patients; columns that are no known gene (age, stage, …) are passed by and counted."""
    numbered = are_entrez([name for i, name in enumerate(table.columns) if i != id_column])
    known = entrez_number if numbered else is_gene
    genes = [i for i, name in enumerate(table.columns) if i != id_column and known(name)]
    if not genes:
        raise InputError(unknown_names(table.path, table.columns, []))
    ids = _names(table, frame, id_column)
    passed = {"other_columns_passed_by": len(table.columns) - len(genes) - 1}
    return Matrix(_numbers(table, frame, genes), ids, [table.columns[i] for i in genes], passed)


def _genes_by_samples(table: TextTable, frame: pd.DataFrame, name_column: int) -> Matrix:
    """Rows are genes; further columns of names and annotation before or between the samples are passed by."""
    samples = [
        i
        for i, name in enumerate(table.columns)
        if i != name_column and name.lower() not in _ANNOTATION and not _is_annotation(frame.iloc[:, i], i)
    ]
    if not samples:
        raise InputError(
            f"{table.path}: genes stand in column {table.columns[name_column]!r}, but no sample beside them"
        )
    named = frame[frame.iloc[:, name_column].notna()]
    genes = [str(name).strip() for name in named.iloc[:, name_column]]
    values = _numbers(table, named, samples).T
    names = [table.columns[i] for i in samples]
    if "" in names:
        raise InputError(
            f"{table.path}: column {samples[names.index('')] + 1} has no sample name in the header; name it"
        )
    passed = {
        "other_columns_passed_by": len(table.columns) - len(samples) - 1,
        "rows_without_gene_name_dropped": len(frame) - len(named),
    }
    return Matrix(values, names, genes, passed)


def _share_of_names(column: pd.Series) -> float:
    """Share of a column's first values that are gene names."""
    if pd.api.types.is_numeric_dtype(column):
        return 0.0
    return share_of_genes([str(name).strip() for name in column.dropna().iloc[:2000]])


def _is_annotation(column: pd.Series, position: int) -> bool:
    """Words (not numbers) in one of the first columns: chromosome, biotype, a second name."""
    if position >= _NAME_COLUMNS or pd.api.types.is_numeric_dtype(column):
        return False
    return bool(pd.to_numeric(column.dropna().iloc[:100], errors="coerce").isna().mean() > 0.5)


def _names(table: TextTable, frame: pd.DataFrame, position: int) -> list[str]:
    """Patient ids of the rows."""
    column = frame.iloc[:, position]
    if column.isna().any():
        line = table.line_of(column.index[column.isna()][0])
        raise InputError(
            f"{table.path}: line {line} has no patient id in column {frame.columns[position]!r}; fill it or drop the row"
        )
    return [str(name).strip() for name in column]


def _numbers(table: TextTable, frame: pd.DataFrame, columns: Sequence[int] | range) -> np.ndarray:
    """(rows, columns) float64; a value that is no number is refused by line and column."""
    parts = []
    for i in columns:
        column = frame.iloc[:, i]
        if not pd.api.types.is_numeric_dtype(column):
            numbers = pd.to_numeric(column, errors="coerce")
            bad = numbers.isna() & column.notna()
            if bad.any():
                word = str(column[bad.idxmax()])
                raise InputError(
                    f"{table.path}: line {table.line_of(bad.idxmax())}, column {frame.columns[i]!r}: "
                    f"{word!r} {no_number(word)}; correct it, or leave it empty"
                )
            column = numbers
        parts.append(column.to_numpy(dtype=np.float64))
    values = np.stack(parts, axis=1) if parts else np.empty((len(frame), 0))
    if np.isinf(values).any():
        row, column = np.argwhere(np.isinf(values))[0]
        raise InputError(
            f"{table.path}: line {table.line_of(frame.index[row])}: infinite value in column {frame.columns[list(columns)[column]]!r}"
        )
    return values


def _examples(names: Sequence[object] | pd.Series, count: int = 3) -> str:
    shown = [str(name) for name in list(names)[:count]]
    return ", ".join(shown) + (", …" if len(names) > count else "")
