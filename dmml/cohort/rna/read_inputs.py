"""Reads each input into a table of samples × symbols on one scale, without rows that are not genes.

Tables of other measurements than RNA are refused.
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from dmml.cohort.rna.formats.feature_counts import is_feature_counts, read_feature_counts
from dmml.cohort.rna.formats.firebrowse import is_firebrowse, read_firebrowse
from dmml.cohort.rna.formats.gct import is_gct, read_gct
from dmml.cohort.rna.formats.matrix import Matrix, merge_symbols, read_matrix
from dmml.cohort.rna.formats.sample_files import read_sample_files
from dmml.cohort.rna.formats.star_counts import combine, read_star_counts
from dmml.cohort.rna.genes.gene_mapping import GeneAccount
from dmml.cohort.rna.genes.probes import ProbeMap
from dmml.cohort.rna.genes.summary_rows import COUNTS, rows_by_kind
from dmml.cohort.rna.inputs import SortedInputs
from dmml.cohort.rna.other_measurements import check_file, check_names, check_values
from dmml.cohort.rna.parquet import open_parquet
from dmml.cohort.rna.samples.sample_names import name_of_file
from dmml.cohort.rna.scale import check_varied, refuse_mixed, settle_scale
from dmml.cohort.rna.small_offset import without_small_offset
from dmml.cohort.tables import open_table
from dmml.errors import InputError

_NO_SAMPLE = re.compile(
    r"(raw|expected|read|est)?[ _.]?(counts?|reads)|tpm|fpkm|rpkm|values?|expression", re.IGNORECASE
)
"""Headers of a single column of values that do not name the sample, so that the file name does."""


class InputOptions(NamedTuple):
    """Options that the user states about the inputs."""

    scale: str | None = None
    patient_id: str | None = None
    suffix: str | None = None
    all_genes: bool = False
    probes: ProbeMap | None = None
    in_map: Container[str] = ()
    """Names in the patient map."""


class SampleTable(NamedTuple):
    """Table read from one input, and how it was read."""

    table: pd.DataFrame
    """(samples × symbols)."""
    scale: str
    notes: dict[str, int]
    """{reason: number of rows, columns or values that were merged, dropped or changed}."""
    genes: GeneAccount
    """Genes that were renamed, merged or dropped, by name."""
    sources: list[tuple[Path, str]]
    """Files and their formats."""
    unit: str = ""
    """Format and scale in words; empty if the format does not determine the scale."""


def read_inputs(inputs: SortedInputs, options: InputOptions) -> list[SampleTable]:
    """Read every input.

    Raises:
        InputError: A reader refuses a file, the scale is unknown, or a table does not hold RNA.
    """
    tables = [_star_counts(inputs.star_counts, options)] if inputs.star_counts else []
    for form, paths in inputs.samples.items():
        matrix = read_sample_files(form, paths, options.scale, options.probes, options.in_map)
        tables.append(_sample_table(matrix, options, str(paths[0]), [(path, form.key) for path in paths]))
    for path in inputs.matrices:
        form, matrix = _read_matrix(path, options)
        tables.append(_sample_table(matrix, options, str(path), [(path, form)]))
    return tables


def _star_counts(paths: list[Path], options: InputOptions) -> SampleTable:
    scale = options.scale or "tpm"
    progress = tqdm(paths, desc="STAR-counts", unit="file", disable=None)
    read = (read_star_counts(path, scale, options.all_genes) for path in progress)
    table, notes, genes = combine(read, str(paths[0].parent))
    return SampleTable(table, scale, notes, genes, [(path, "star_counts") for path in paths], "STAR-counts of the GDC")


def _read_matrix(path: Path, options: InputOptions) -> tuple[str, Matrix]:
    """Read a file of many samples: the name of its format, and its content."""
    check_file(path)
    if path.suffix == ".parquet":
        opened = open_parquet(path, options.patient_id)
        return "matrix", read_matrix(path, options.patient_id, options.suffix, options.probes, opened)
    if is_gct(path):
        _check_options(path, "GCT", options)
        return "gct", read_gct(path, options.probes)
    table = open_table(path)
    if is_feature_counts(table):
        _check_options(path, "featureCounts", options)
        return "featurecounts", read_feature_counts(table, options.scale, options.probes)
    if is_firebrowse(table):
        _check_options(path, "Firebrowse", options)
        return "firebrowse", read_firebrowse(table, options.scale, options.probes)
    matrix = read_matrix(path, options.patient_id, options.suffix, options.probes)
    if len(matrix.samples) == 1 and _NO_SAMPLE.fullmatch(matrix.samples[0]):
        matrix = replace(matrix, samples=[name_of_file(path, options.in_map)])
    return "matrix", matrix


def _check_options(path: Path, form: str, options: InputOptions) -> None:
    for name in ("patient_id", "suffix"):
        if getattr(options, name):
            raise InputError(
                f"{path}: is a table of {form}, whose columns are samples, so {name} says nothing of it; leave {name} out"
            )


def _sample_table(matrix: Matrix, options: InputOptions, source: str, files: list[tuple[Path, str]]) -> SampleTable:
    """Convert a matrix to symbols on one scale, without rows that are not genes; other measurements are refused."""
    matrix, no_genes = _without_summaries(matrix, source)
    check_names(source, matrix.genes)
    check_varied(matrix.values, source)
    check_values(source, matrix.values)
    matrix, scale, offset_notes, to_log2 = _on_its_scale(matrix, options, source)
    table, genes = merge_symbols(matrix, scale)
    notes = {**offset_notes, **genes.counts, **matrix.notes}
    if to_log2:
        table, scale = np.log2(table + 1.0), "log2"
    if scale == "tpm":  # background subtraction leaves small negative values
        notes["negative_values_set_to_0"] = int((table < 0).to_numpy().sum())
        table = table.clip(lower=0)
    elif scale == "zscore":  # only counted: standardisation clips them to ± 3
        notes["values_beyond_10_standard_deviations"] = int((table.abs() > 10).to_numpy().sum())
    genes.dropped |= no_genes
    return SampleTable(table, scale, notes, genes, files, matrix.unit)


def _without_summaries(matrix: Matrix, source: str) -> tuple[Matrix, dict[str, list[str]]]:
    """Remove summaries of reads and spike-ins, and return the matrix and the removed names by kind."""
    found = rows_by_kind(matrix.genes)
    if not found:
        return matrix, {}
    no_genes = {name for names in found.values() for name in names}
    kept = [i for i, gene in enumerate(matrix.genes) if gene.strip() not in no_genes]
    if not kept:
        raise InputError(
            f"{source}: holds summaries of reads and spike-ins alone, and no gene; give the table of genes"
        )
    notes = {**matrix.notes, **{COUNTS[kind]: len(names) for kind, names in found.items()}}
    genes = [matrix.genes[i] for i in kept]
    return replace(matrix, values=matrix.values[:, kept], genes=genes, notes=notes), found


def _on_its_scale(matrix: Matrix, options: InputOptions, source: str) -> tuple[Matrix, str, dict[str, int], bool]:
    """Bring the matrix to a scale on which rows of one symbol can be merged.

    A logarithm with a small offset is converted back. If its linear values may be TPM or FPKM, as in a table of few
    genes, they are later stored as log2(x + 1), which is what models compute from either.

    Returns:
        The matrix, its scale, notes for the provenance, and whether to store the merged values as log2(x + 1).
    """
    if matrix.scale is not None:
        return matrix, matrix.scale, {}, False
    without = without_small_offset(matrix.values, options.scale, source, matrix.genes)
    if without is None:
        named = f"{source} ({matrix.unit})" if matrix.unit else source
        scale = settle_scale(matrix.values, options.scale, named, matrix.samples, matrix.genes)
        return matrix, scale, {}, False
    refuse_mixed(without.values, source, matrix.samples)
    linear = replace(matrix, values=without.values)
    return linear, without.scale or "tpm", without.notes, without.scale is None
