"""Reads each input into a table of samples × symbols on one scale, without rows that are not genes.

Tables of other measurements than RNA are refused.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dmml.cohort.rna.formats.rna_format import ReadOptions, TableFormat
from dmml.cohort.rna.genes.summary_rows import COUNTS, rows_by_kind
from dmml.cohort.rna.inputs import SortedInputs
from dmml.cohort.rna.matrix import Matrix, merge_symbols
from dmml.cohort.rna.other_measurements import check_file, check_names, check_values
from dmml.cohort.rna.scale import check_mixed_scales, check_varied, settle_scale
from dmml.cohort.rna.small_offset import without_small_offset
from dmml.cohort.rna.symbol_table import SymbolTable
from dmml.errors import InputError


class ReadInput(NamedTuple):
    """What was read from one table, or from all files of one sample each that have the same format."""

    content: SymbolTable
    files: list[Path]
    format_key: str
    """Name of the format in the provenance."""


def read_inputs(inputs: SortedInputs, options: ReadOptions) -> list[ReadInput]:
    """Read every input.

    Raises:
        InputError: A reader refuses a file, the scale is unknown, or a table does not hold RNA.
    """
    _check_layer_options(inputs, options)
    results = []
    for sample_format, paths in inputs.sample_files.items():
        if paths:
            content = sample_format.read(paths, options)
            if isinstance(content, Matrix):
                content = _to_symbols(content, options.scale, str(paths[0]))
            results.append(ReadInput(content, paths, sample_format.key))
    for table_format, path in inputs.tables:
        check_file(path)
        _check_options(path, table_format, options)
        content = _to_symbols(table_format.read(path, options), options.scale, str(path))
        results.append(ReadInput(content, [path], table_format.key))
    return results


def _check_options(path: Path, form: TableFormat, options: ReadOptions) -> None:
    if form.takes_patient_id:
        return
    for name, value in (("patient_id", options.patient_id), ("suffix", options.suffix)):
        if value:
            raise InputError(
                f"{path}: is a table of {form.title}, whose columns are samples, so {name} does not apply; leave {name} out"
            )


def _check_layer_options(inputs: SortedInputs, options: ReadOptions) -> None:
    """Refuse a layer or a column of gene names if an input has no layers."""
    names = [name for name, value in (("layer", options.layer), ("gene_names", options.gene_names)) if value]
    of_samples = [(form, path) for form, paths in inputs.sample_files.items() for path in paths]
    without = [(form, path) for form, path in inputs.tables if not form.takes_layer]
    for form, path in (*of_samples, *without) if names else ():
        raise InputError(
            f"{path}: is {form.title}, and {names[0]} is for tables of AnnData alone; leave {names[0]} out"
        )


def _to_symbols(matrix: Matrix, stated_scale: str | None, source: str) -> SymbolTable:
    """Convert a matrix to symbols on one scale, without rows that are not genes; other measurements are refused."""
    matrix, dropped_rows = _without_summaries(matrix, source)
    check_names(source, matrix.genes)
    check_varied(matrix.values, source)
    check_values(source, matrix.values)
    matrix, scale, offset_notes, to_log2 = _on_its_scale(matrix, stated_scale, source)
    table, genes = merge_symbols(matrix, scale)
    notes = {**offset_notes, **genes.counts, **matrix.notes}
    if to_log2:
        table, scale = np.log2(table + 1.0), "log2"
    if scale == "tpm":  # background subtraction leaves small negative values
        notes["negative_values_set_to_0"] = int((table < 0).to_numpy().sum())
        table = table.clip(lower=0)
    elif scale == "zscore":  # only counted: standardisation clips them to ± 3
        notes["values_beyond_10_standard_deviations"] = int((table.abs() > 10).to_numpy().sum())
    genes.dropped |= dropped_rows
    return SymbolTable(table, scale, notes, genes, matrix.unit)


def _without_summaries(matrix: Matrix, source: str) -> tuple[Matrix, dict[str, list[str]]]:
    """Remove summaries of reads and spike-ins, and return the matrix and the removed names by kind."""
    removed = rows_by_kind(matrix.genes)
    if not removed:
        return matrix, {}
    removed_names = {name for names in removed.values() for name in names}
    kept = [i for i, gene in enumerate(matrix.genes) if gene.strip() not in removed_names]
    if not kept:
        raise InputError(
            f"{source}: contains only summaries of reads and spike-ins, and no gene; give the table of genes"
        )
    notes = {**matrix.notes, **{COUNTS[kind]: len(names) for kind, names in removed.items()}}
    genes = [matrix.genes[i] for i in kept]
    return replace(matrix, values=matrix.values[:, kept], genes=genes, notes=notes), removed


def _on_its_scale(matrix: Matrix, stated_scale: str | None, source: str) -> tuple[Matrix, str, dict[str, int], bool]:
    """Bring the matrix to a scale on which rows of one symbol can be merged.

    A logarithm with a small offset is converted back. If its linear values may be TPM or FPKM, as in a table of few
    genes, they are later stored as log2(x + 1), which is what models compute from either.

    Returns:
        The matrix, its scale, notes for the provenance, and whether to store the merged values as log2(x + 1).
    """
    if matrix.scale is not None:
        return matrix, matrix.scale, {}, False
    linear = without_small_offset(matrix.values, stated_scale, source, matrix.genes)
    if linear is None:
        described = f"{source} ({matrix.unit})" if matrix.unit else source
        scale = settle_scale(matrix.values, stated_scale, described, matrix.samples, matrix.genes)
        return matrix, scale, {}, False
    check_mixed_scales(linear.values, source, matrix.samples)
    matrix = replace(matrix, values=linear.values)
    return matrix, linear.scale or "tpm", linear.notes, linear.scale is None
