"""Reads RNA tables that AnnData wrote: patients or samples as obs, genes as var, values in X or a layer."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dmml.cohort.rna.formats.cells import patient_ids
from dmml.cohort.rna.formats.h5ad.h5ad_file import (
    H5adParts,
    open_parts,
    read_frame,
    read_values,
    require_name,
    shape_of,
    text_columns,
)
from dmml.cohort.rna.formats.orientations import MIN_SHARE_OF_GENES, of_tumors
from dmml.cohort.rna.formats.rna_format import ReadOptions, TableFormat
from dmml.cohort.rna.formats.unknown_names import describe_unknown_names, examples
from dmml.cohort.rna.genes.gene_mapping import are_entrez
from dmml.cohort.rna.genes.gene_names import share_of_genes
from dmml.cohort.rna.genes.probes import ProbeMap
from dmml.cohort.rna.matrix import Matrix
from dmml.cohort.rna.scale import LOG_MAXIMUM
from dmml.cohort.tables.text_table import TextTable
from dmml.errors import InputError, reason_of

if TYPE_CHECKING:
    import h5py

_PATIENT_ID = "patient_id"
_CELL_BARCODE = re.compile(r"(?:\w+[-_#:])?[ACGT]{12,}(?:[-_.]\w+)*")
_MAX_SAMPLES_PER_PATIENT = 20
"""More rows of a patient than this are cells, not samples"""
_MAX_NAMES = 2000


class H5adTable(TableFormat):
    """A table of AnnData; of its parts, `obs`, `var` and the values are read, and nothing is unpickled."""

    key, title = "h5ad", "AnnData"
    takes_patient_id = True
    takes_layer = True

    def matches(self, path: Path) -> bool:
        """Whether the name of a file ends with `.h5ad`."""
        return path.suffix.lower() == ".h5ad"

    def read(self, path: Path, options: ReadOptions) -> Matrix:
        """Read the table.

        Patients are the column of `obs` that the options name, else `patient_id`, else the names of `obs`. Genes are the
        column of `var` that the options name, else whichever of its columns and names has the highest share of genes.
        Values of scanpy's `log1p`, which takes the natural logarithm and notes it in `uns`, become log2(x + 1).

        Raises:
            InputError: The file is damaged or not AnnData's, it has no such column or layer, holds single cells or has no
                genes as var, or a value is not a finite number.
        """
        import h5py

        if options.suffix is not None:
            raise InputError(f"{path}: var are genes, so suffix does not apply to AnnData; leave suffix out")
        if not path.is_file():
            raise InputError(f"{path}: no such file; check the path")
        try:
            file = h5py.File(path, "r")
        except OSError as error:
            raise InputError(
                f"{path}: is not a complete .h5ad file ({reason_of(error)[:120]}); fetch it again"
            ) from error
        with file:
            parts = open_parts(file, path, options.layer)
            if options.patient_id is not None:
                require_name(path, parts.obs_columns, options.patient_id, "obs (expression: patient_id)")
            if options.gene_names is not None:
                require_name(path, parts.var_columns, options.gene_names, "var (expression: gene_names)")
            return _read(file, path, parts, options)


def _read(file: h5py.File, path: Path, parts: H5adParts, options: ReadOptions) -> Matrix:
    obs, var = read_frame(file, path, "obs"), read_frame(file, path, parts.var)
    shape = shape_of(file, parts.values)
    if shape != (len(obs), len(var)) or not min(shape):
        raise InputError(
            f"{path}: its {parts.values} has {shape[0]} × {shape[1]} values for {len(obs)} obs and {len(var)} var; write "
            "the file again"
        )
    column = options.patient_id or (_PATIENT_ID if _PATIENT_ID in obs.columns else None)
    table, rows = _rows_of_obs(path, obs, column)
    genes, notes = _genes(path, var, list(obs.index), options)
    rows, dropped = of_tumors(table, rows, 0)
    ids = patient_ids(table, rows, 0)
    _check_no_cells(path, list(map(str, obs.index)), len(obs), len(set(ids)), column)
    values = read_values(file, path, parts.values)[rows.index]
    kept = [i for i, gene in enumerate(genes) if gene]
    matrix = Matrix(values[:, kept], ids, [genes[i] for i in kept], notes | dropped)
    return _without_natural_logarithm(matrix, parts.log_base, options.scale)


def _rows_of_obs(path: Path, obs: pd.DataFrame, column: str | None) -> tuple[TextTable, pd.DataFrame]:
    """Return `obs` as a table with the patients in the first column, and rows numbered from 0."""
    ids = obs.index if column is None else obs[column]
    name = column or "obs_names"
    others = obs.drop(columns=[] if column is None else [column]).reset_index(drop=True).astype(object)
    first = pd.Series([None if pd.isna(value) else value for value in ids], dtype=object, name=name)
    frame = pd.concat([first, others], axis=1)
    return TextTable(path, ",", 1, [name, *map(str, others.columns)]), frame


def _genes(
    path: Path, var: pd.DataFrame, obs_names: Sequence[object], options: ReadOptions
) -> tuple[list[str], dict[str, int]]:
    """Return the name of each gene, empty where it has none, and what was counted on the way."""
    names = {"var_names": [str(name).strip() for name in var.index]} | dict(text_columns(var))
    if options.gene_names is not None:
        named = names.get(options.gene_names)
        if named is None:
            raise InputError(
                f"{path}: column {options.gene_names!r} of its var holds numbers with decimals, not names of genes"
            )
        names = {options.gene_names: named}
    if options.probes is not None:
        return _mapped(path, next(iter(names.values())), options.probes)
    shares = {name: _share_of_genes(values) for name, values in names.items()}
    best = max(shares, key=lambda name: shares[name])
    if shares[best] < MIN_SHARE_OF_GENES:
        patients = [str(name) for name in obs_names]
        if _share_of_genes(patients) >= MIN_SHARE_OF_GENES:
            raise InputError(
                f"{path}: its obs are genes ({examples(patients)}) and its var are not; write adata.T, so that obs are patients"
            )
        raise InputError(describe_unknown_names(path, names[best], patients))
    return names[best], {"genes_without_a_name_dropped": names[best].count("")}


def _mapped(path: Path, names: list[str], probes: ProbeMap) -> tuple[list[str], dict[str, int]]:
    symbols, notes = probes.rename(names)
    if not notes["probes_mapped"]:
        raise InputError(
            f"{path}: none of its var ({examples(names)}) is in the map of probes; give the annotation of this table's "
            "platform with --probes"
        )
    return [symbol or "" for symbol in symbols], notes


def _share_of_genes(names: Sequence[str]) -> float:
    named = [name for name in names if name][:_MAX_NAMES]
    if len(set(named)) < 2:
        return 0.0
    return 1.0 if are_entrez(named) else share_of_genes(named)


def _check_no_cells(path: Path, names: Sequence[str], n_rows: int, n_patients: int, column: str | None) -> None:
    """Refuse single cells, before their values are read: they may not fit into memory as a dense table."""
    barcodes = sum(_CELL_BARCODE.fullmatch(name) is not None for name in names[:_MAX_NAMES])
    are_cells = barcodes > min(len(names), _MAX_NAMES) / 2
    if are_cells or n_rows > _MAX_SAMPLES_PER_PATIENT * n_patients:
        patients = f" of {n_patients} patients" if column else ""
        raise InputError(
            f"{path}: its {n_rows} obs{patients} ({examples(names)}) are single cells; sum their counts to one row per "
            "patient first, e.g. with scanpy.get.aggregate"
        )


def _without_natural_logarithm(matrix: Matrix, base: float | None, stated: str | None) -> Matrix:
    """Convert log_b(x + 1) to log2(x + 1), if scanpy noted that it took logarithms and the values look like them."""
    finite = matrix.values[np.isfinite(matrix.values)]
    if base is None or base == 2 or stated not in (None, "log2") or not len(finite):
        return matrix
    if finite.min() < 0 or finite.max() > LOG_MAXIMUM or (finite == np.rint(finite)).all():
        return matrix  # scaled, or not taken logarithms of: the note in `uns` stays when values are replaced
    name = "ln" if math.isclose(base, math.e) else f"log{base:g}"
    unit = f"AnnData, log2(x + 1), converted from scanpy's {name}(x + 1)"
    return replace(matrix, values=matrix.values * (math.log(base) / math.log(2)), scale="log2", unit=unit)
