"""Reads tables of Firebrowse (Broad GDAC): the second line names each column's quantity; genes are `SYMBOL|entrez`."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from dmml.cohort.rna.formats.annotated_table import read_annotated
from dmml.cohort.rna.formats.matrix import Matrix
from dmml.cohort.rna.genes.probes import ProbeMap
from dmml.cohort.rna.other_measurements import refusal
from dmml.cohort.separator import split_line
from dmml.cohort.tables import TextTable, open_text, read_rows
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


def is_firebrowse(table: TextTable) -> bool:
    """Whether the first column of a table is named as in Firebrowse."""
    return table.columns[0].strip().lower() == "hybridization ref"


def read_firebrowse(table: TextTable, scale: str | None, probes: ProbeMap | None = None) -> Matrix:
    """Read one quantity of each sample: the stated one, or else TPM from `scaled_estimate`, or else counts or RPKM.

    Args:
        table: Header of the table.
        scale: `tpm`, `counts` or `fpkm`, if the table has it; None for the first available in the order of
            `_QUANTITIES`.
        probes: Map from row names to genes, if the names are not genes.

    Raises:
        InputError: The table holds none of these quantities, or not the stated one.
    """
    below = replace(table, header_line=table.header_line + 1)
    kinds = _second_line(table)
    if "beta_value" in kinds:
        raise refusal(table.path, "methylation", "Firebrowse's Beta_value")
    found = [quantity for quantity in _QUANTITIES if quantity.column in kinds[1:]]
    if not found:
        raise InputError(
            f"{table.path}: a table of Firebrowse with {', '.join(sorted(set(kinds[1:]) - {''})) or 'no kind of value'} in its "
            "second line, which is not RNA of genes that dmml knows; give RSEM_genes or RSEM_genes_normalized"
        )
    quantity = next((one for one in found if scale in (None, one.scale)), None)
    if quantity is None:
        scales = " or ".join(dict.fromkeys(one.scale for one in found))
        columns = ", ".join(one.column for one in found)
        raise InputError(f"{table.path}: Firebrowse's {columns} is on the scale {scales}, not {scale}; change --scale")
    samples = [i for i, kind in enumerate(kinds) if kind == quantity.column]
    frame = read_rows(below, names=0)
    matrix = read_annotated(below, frame, [0], samples, probes)
    return replace(
        matrix,
        values=matrix.values * quantity.factor,
        scale=quantity.scale,
        unit=quantity.unit,
        notes={**matrix.notes, "other_columns_passed_by": len(table.columns) - len(samples) - 1},
    )


def _second_line(table: TextTable) -> list[str]:
    """Read the name of the quantity in each column, in lower case."""
    with open_text(table.path) as text:
        line = next(islice(text, table.header_line, None), "")
    kinds = [word.strip().lower() for word in split_line(line, table.separator)]
    return kinds + [""] * (len(table.columns) - len(kinds))
