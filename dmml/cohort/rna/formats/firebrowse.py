"""Reads tables of Firebrowse (Broad GDAC): the second line names each column's quantity; genes are `SYMBOL|entrez`."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from dmml.cohort.rna.formats.annotated_table import read_annotated
from dmml.cohort.rna.formats.rna_format import ReadOptions, TableFormat
from dmml.cohort.rna.matrix import Matrix
from dmml.cohort.rna.other_measurements import refusal
from dmml.cohort.tables.separators import split_line
from dmml.cohort.tables.text_files import open_text
from dmml.cohort.tables.text_table import TextTable, open_table, read_rows
from dmml.errors import InputError


class _Quantity(NamedTuple):
    column: str
    scale: str
    factor: float
    unit: str


_QUANTITIES = (
    _Quantity("scaled_estimate", "tpm", 1e6, "Firebrowse RSEM, TPM from scaled_estimate"),
    _Quantity("raw_count", "counts", 1.0, "Firebrowse RSEM, counts from raw_count"),
    # Counts divided by the upper quartile of their sample; counts per million are the same as from raw counts.
    _Quantity("normalized_count", "counts", 1.0, "Firebrowse RSEM, counts from normalized_count"),
    _Quantity("rpkm", "fpkm", 1.0, "Firebrowse RNA-seq, RPKM"),
    _Quantity("raw_counts", "counts", 1.0, "Firebrowse RNA-seq, counts from raw_counts"),
)


class Firebrowse(TableFormat):
    """Genes × samples, with one or more quantities of each sample."""

    key, title = "firebrowse", "Firebrowse"

    def matches(self, path: Path) -> bool:
        """Whether the first column of a table is named as in Firebrowse."""
        return open_table(path).columns[0].strip().lower() == "hybridization ref"

    def read(self, path: Path, options: ReadOptions) -> Matrix:
        """Read one quantity of each sample: the stated one, or else TPM from `scaled_estimate`, or else counts or RPKM.

        Raises:
            InputError: The table holds none of these quantities, or not the stated one.
        """
        table = open_table(path)
        columns_below = replace(table, header_line=table.header_line + 1)
        quantities = _second_line(table)
        quantity = _choose_quantity(path, quantities, options.scale)
        samples = [i for i, name in enumerate(quantities) if name == quantity.column]
        frame = read_rows(columns_below, names=0)
        matrix = read_annotated(columns_below, frame, [0], samples, options.probes)
        return replace(
            matrix,
            values=matrix.values * quantity.factor,
            scale=quantity.scale,
            unit=quantity.unit,
            notes={**matrix.notes, "other_columns_passed_by": len(table.columns) - len(samples) - 1},
        )


def _choose_quantity(path: Path, columns: list[str], scale: str | None) -> _Quantity:
    """The first quantity of the table, in the order of `_QUANTITIES`, that is on the stated scale, if there is one."""
    if "beta_value" in columns:
        raise refusal(path, "methylation", "Firebrowse's Beta_value")
    available = [quantity for quantity in _QUANTITIES if quantity.column in columns[1:]]
    if not available:
        raise InputError(
            f"{path}: the second line of this table of Firebrowse names "
            f"{', '.join(sorted(set(columns[1:]) - {''})) or 'no quantity'}, which is not RNA of genes that dmml can read; "
            "download RSEM_genes or RSEM_genes_normalized"
        )
    quantity = next((quantity for quantity in available if scale in (None, quantity.scale)), None)
    if quantity is None:
        scales = " or ".join(dict.fromkeys(quantity.scale for quantity in available))
        names = ", ".join(quantity.column for quantity in available)
        raise InputError(f"{path}: Firebrowse's {names} is on the scale {scales}, not {scale}; change --scale")
    return quantity


def _second_line(table: TextTable) -> list[str]:
    """Read the name of the quantity in each column, in lower case."""
    with open_text(table.path) as text:
        line = next(islice(text, table.header_line, None), "")
    quantities = [word.strip().lower() for word in split_line(line, table.separator)]
    return quantities + [""] * (len(table.columns) - len(quantities))
