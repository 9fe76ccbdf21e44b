"""Reads genes × samples from formats that define which columns are samples and which describe the genes."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from dmml.cohort.rna.formats.orientations import genes_by_samples
from dmml.cohort.rna.formats.unknown_names import describe_unknown_names
from dmml.cohort.rna.genes.gene_mapping import are_entrez
from dmml.cohort.rna.genes.gene_names import share_of_genes
from dmml.cohort.rna.genes.probes import ProbeMap
from dmml.cohort.rna.matrix import Matrix
from dmml.cohort.tables.text_table import TextTable
from dmml.errors import InputError

_MIN_SHARE = 0.2


def read_annotated(
    table: TextTable,
    frame: pd.DataFrame,
    annotation: Sequence[int],
    samples: Sequence[int],
    probes: ProbeMap | None = None,
) -> Matrix:
    """Read the samples, with gene names from the annotation column that has the highest share of them.

    Args:
        table: Header of the table.
        frame: Rows of the table; the columns of samples hold numbers.
        annotation: Positions of the columns that describe genes, starting with the names that the format defines.
        samples: Positions of the samples.
        probes: Map from the names in the first annotation column to genes, if the names are not genes.

    Raises:
        InputError: None of the columns holds gene names, there is no row or sample, or a value is not a number.
    """
    if frame.empty or not samples:
        raise InputError(f"{table.path}: has no {'row' if samples else 'sample'}; check that the file is complete")
    first = annotation[0]
    names = [str(name).strip() for name in frame.iloc[:, first]]
    if probes is not None:
        symbols, notes = probes.rename(names)
        renamed = frame.set_axis(range(frame.shape[1]), axis=1)
        renamed[first] = pd.Series(symbols, index=frame.index, dtype=object)
        mapped = renamed[renamed[first].notna()].set_axis(frame.columns, axis=1)
        if mapped.empty:
            raise InputError(
                f"{table.path}: none of its rows ({', '.join(names[:3])}, …) is in the map of probes; give the annotation of "
                "this table's platform with --probes"
            )
        matrix = genes_by_samples(table, mapped, first, samples)
        return Matrix(matrix.values, matrix.samples, matrix.genes, matrix.notes | notes)
    shares = {position: _share_of_names(frame.iloc[:, position]) for position in annotation}
    best = max(annotation, key=lambda position: shares[position])
    if shares[best] < _MIN_SHARE:
        raise InputError(describe_unknown_names(table.path, [table.columns[i] for i in samples], names))
    return genes_by_samples(table, frame, best, samples)


def _share_of_names(column: pd.Series) -> float:
    names = [str(name).strip() for name in column.dropna().iloc[:2000]]
    return 1.0 if are_entrez(names) else share_of_genes(names)
