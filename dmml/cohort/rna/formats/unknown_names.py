"""Says why a table has no gene names, as far as its names and header show it, and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dmml.cohort.rna.formats.table_header import are_values
from dmml.cohort.rna.genes.gene_mapping import entrez_number
from dmml.cohort.rna.genes.gene_names import share_of_genes
from dmml.cohort.rna.other_measurements import check_names, meaning_of_suffix
from dmml.cohort.tables.text_table import MISSING, TextTable
from dmml.errors import InputError


def without_gene_names(table: TextTable, names: Sequence[str], platform: str | None = None) -> InputError:
    """Make the error for a table without gene names; raises a more specific one if the cause is recognised.

    Args:
        table: Header of the table.
        names: First column of its rows; empty if the rows are patients.
        platform: Platform of a GEO series matrix.
    """
    check_names(table.path, names)
    check_names(table.path, table.columns[1:])
    check_values_in_header(table, names)
    return InputError(describe_unknown_names(table.path, table.columns[1:], names, platform))


def check_values_in_header(table: TextTable, names: Sequence[str]) -> None:
    """Refuse a table whose first line is not a header but the row of a patient.

    Args:
        table: Header of the table.
        names: First column of its rows.

    Raises:
        InputError: The header holds values.
    """
    if are_values(table.columns, names):
        raise InputError(
            f"{table.path}: has no header: its first line ({examples(table.columns)}) holds values; add a first line that "
            "names the columns"
        )


def describe_unknown_names(path: Path, header: Sequence[str], rows: Sequence[str], platform: str | None = None) -> str:
    """Message about a table without gene names, with the likely cause and what to do.

    Args:
        path: Path of the table.
        header: Names of its columns, without the first.
        rows: First column of its rows.
        platform: Platform of a GEO series matrix.
    """
    names = [str(name).strip() for name in rows if str(name).strip().lower() not in MISSING]
    if platform:
        return (
            f"{path}: is a GEO series matrix, whose rows are probes of {platform} ({examples(names)}), not genes; add --probes "
            "with the annotation of the platform (its columns ID and Gene Symbol)"
        )
    suffixes = _suffixes_of_genes(header)
    if suffix := next((suffix for suffix in suffixes if not meaning_of_suffix(suffix)), None):
        return (
            f"{path}: the names of its gene columns end with {suffix!r}; add --suffix {suffix} --patient-id COLUMN (in a "
            f"config: expression: {{path: …, suffix: {suffix}, patient_id: COLUMN}})"
        )
    if suffixes:
        contents = " and ".join(f"{meaning_of_suffix(suffix)} (columns ending with {suffix!r})" for suffix in suffixes)
        return f"{path}: holds {contents}, but no RNA; name a table of RNA, or leave expression out"
    for axis, axis_names in (("first column", names), ("header", [str(name) for name in header])):
        if len(axis_names) > 1 and np.mean([entrez_number(name) is not None for name in axis_names]) > 0.9:
            return (
                f"{path}: its {axis} holds numbers ({examples(axis_names)}) that are consecutive, or mostly not the Entrez "
                "numbers of human genes; give a table with symbols, Ensembl ids or Entrez numbers, or add --probes with the "
                "columns Entrez_Gene_Id and Hugo_Symbol"
            )
    return (
        f"{path}: no gene names were recognised, neither in its header ({examples(header)}) nor in its first "
        f"column ({examples(names)}); give a table with symbols or Ensembl ids, or add --probes with a table that maps the "
        "names to symbols"
    )


def examples(names: Sequence[object], count: int = 3) -> str:
    """The first names, separated by commas, for a message."""
    return ", ".join(map(str, names[:count])) + (", …" if len(names) > count else "")


def _suffixes_of_genes(header: Sequence[str]) -> list[str]:
    """Suffixes that turn genes into column names, such as `_rnaseq` in `TP53_rnaseq`, most frequent first."""
    counts = Counter(f"_{tail}" for name in header if (tail := str(name).rpartition("_")[2]) != name)
    suffixes = []
    for suffix, count in counts.most_common(10):
        stems = [str(name).removesuffix(suffix) for name in header if str(name).endswith(suffix)]
        if count > 1 and share_of_genes(stems) > 0.5:
            suffixes.append(suffix)
    return suffixes
