"""Reads RNA tables that another program wrote as parquet, in either orientation."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from dmml.cohort.rna.expression_file import check_unique_patients, open_parquet_file
from dmml.cohort.rna.formats.gene_table import read_gene_table
from dmml.cohort.rna.formats.rna_format import ReadOptions, TableFormat
from dmml.cohort.rna.genes.gene_mapping import are_entrez
from dmml.cohort.rna.genes.gene_names import share_of_genes
from dmml.cohort.rna.matrix import Matrix
from dmml.cohort.tables.text_table import TextTable
from dmml.errors import InputError

_MIN_SHARE_OF_GENES = 0.2
_ID_COLUMNS = ("patient_id", "__index_level_0__")


class ParquetTable(TableFormat):
    """A table of another program; one of dmml's own has symbols and a scale already, see `read_expression_file`."""

    key, title = "matrix", "parquet"
    takes_patient_id = True

    def matches(self, path: Path) -> bool:
        """Whether the name of a file ends with `.parquet`."""
        return path.suffix == ".parquet"

    def read(self, path: Path, options: ReadOptions) -> Matrix:
        """Read the table; see `open_parquet_table` and `read_gene_table`."""
        return read_gene_table(path, options, open_parquet_table(path, options.patient_id))


def open_parquet_table(path: Path, patient_id: str | None = None) -> tuple[TextTable, pd.DataFrame]:
    """Open a table from another program, in the form that `read_gene_table` takes: with the names in the first column.

    Args:
        path: The file.
        patient_id: Column of the patient ids; None for `patient_id`, else the index that pandas wrote, else the first
            column of text.

    Raises:
        InputError: The file does not exist, is not parquet, has no column of names, or is a table of patients with a
            patient in two rows.
    """
    import pyarrow as pa

    with open_parquet_file(path) as file:
        table = file.read(use_threads=False)
    frame = pd.DataFrame({i: table.column(i).to_pandas() for i in range(table.num_columns)})
    text_columns = [
        name
        for name, kind in zip(table.column_names, table.schema.types, strict=True)
        if pa.types.is_string(kind) or pa.types.is_large_string(kind)
    ]
    names = [str(name) for name in table.column_names]
    id_column = patient_id or next((name for name in (*_ID_COLUMNS, *text_columns) if name in names), "patient_id")
    if id_column not in names:
        raise InputError(
            f"{path}: no column {id_column!r} with the patient ids; name the column under expression: patient_id"
        )
    first = names.index(id_column)
    order = [first, *(i for i in range(len(names)) if i != first)]
    frame, names = frame[order], [names[i] for i in order]
    frame[first] = frame[first].map(str, na_action="ignore")
    frame.columns = pd.Index(names)
    if patient_id is not None or not _are_genes(list(frame.iloc[:, 0].dropna())):
        check_unique_patients(path, list(frame.iloc[:, 0]))
    return TextTable(path, ",", 0, names), frame


def _are_genes(names: list[str]) -> bool:
    """Whether names are genes, of which several rows may have the same name, and not patients."""
    return share_of_genes(names[:2000]) > _MIN_SHARE_OF_GENES or are_entrez(names)
