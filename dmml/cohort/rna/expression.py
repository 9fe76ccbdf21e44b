"""RNA of a cohort as one table of patients × gene symbols, with its scale and provenance."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from dmml._version import __version__
from dmml.cohort.rna.expression_file import read_expression_file, write_expression_file
from dmml.cohort.rna.formats.rna_format import ReadOptions
from dmml.cohort.rna.genes.gene_mapping import GeneMapping
from dmml.cohort.rna.genes.probes import read_probe_map
from dmml.cohort.rna.inputs import sort_inputs
from dmml.cohort.rna.matrix import Matrix
from dmml.cohort.rna.read_inputs import ReadInput, read_inputs
from dmml.cohort.rna.samples.patient_average import average_patients, without_empty_patients
from dmml.cohort.rna.samples.patient_map import patients_of_samples, read_patient_map
from dmml.cohort.rna.scale import SCALES, settle_scale, to_model_scale
from dmml.errors import InputError

_KEYS = ("patient_id", "suffix", "patients", "probes", "layer", "gene_names")
"""Keys of a config's expression that say how a table is read, none of which applies to one that dmml wrote"""


@dataclass
class Expression:
    """RNA of the patients of a cohort, with its scale and provenance."""

    table: pd.DataFrame
    """(patients × gene symbols) float32, index `patient_id`, NaN where unknown."""
    scale: str
    """`tpm`, `counts`, `fpkm`, `log2` or `zscore`."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Sources with hashes, whether the scale was stated, and what was mapped, merged and dropped: numbers under
    `counts`, genes under `names`."""
    on_model_scale: bool = False
    """Whether the table is already on the scale of models, as one joined from several cohorts is."""

    @property
    def patients(self) -> list[str]:
        """Patient ids, in the order of the rows."""
        return list(self.table.index)


def model_values(expression: Expression) -> pd.DataFrame:
    """The table on the scale of models: log2(x + 1) of TPM, FPKM or counts per million; log2 and z-scores unchanged."""
    if expression.on_model_scale:
        return expression.table
    values = to_model_scale(expression.table.to_numpy(), expression.scale)
    return pd.DataFrame(values, index=expression.table.index, columns=expression.table.columns)


def build_expression(
    inputs: Sequence[str | Path],
    scale: str | None = None,
    patients: str | Path | None = None,
    patient_id: str | None = None,
    suffix: str | None = None,
    all_genes: bool = False,
    probes: str | Path | None = None,
    layer: str | None = None,
    gene_names: str | None = None,
) -> Expression:
    """Read RNA files of one cohort into one table.

    Args:
        inputs: STAR-counts files, folders of them, or matrices (genes × samples or patients × genes).
        scale: Scale of the values; detected if None. For files with several scales, such as STAR-counts files, it
            selects the values to read (default `tpm` for STAR-counts).
        patients: CSV `sample,patient_id` or a GDC sample sheet. By default, TCGA barcodes are cut to the patient and
            normal tissue is left out; other names are taken as patient ids.
        patient_id: Column of the patient ids, for tables of patients × genes.
        suffix: Suffix of the gene columns in a wider table.
        all_genes: Also keep genes of STAR-counts files other than protein-coding and immune-receptor genes.
        probes: Table that maps row names to genes, if they are not genes: a platform's annotation, or Entrez numbers
            and symbols.
        layer: Layer of the values in tables of AnnData; None for their `X`.
        gene_names: Column of `var` with the names of genes in tables of AnnData; found if None.

    Returns:
        Table with one row per patient (several samples of one patient are averaged and counted) and one column per gene
        symbol.

    Raises:
        InputError: A file is missing or unreadable, the scale is unknown or differs between inputs, or no patient is
            left.
    """
    if not inputs:
        raise InputError("no RNA file is named; give STAR-counts files, a folder of them, or a table")
    if scale is not None and scale not in SCALES:
        raise InputError(f"unknown --scale {scale!r}; use one of {', '.join(SCALES)}")
    patient_map = None if patients is None else read_patient_map(Path(patients))
    probe_map = None if probes is None else read_probe_map(probes)
    sorted_inputs = sort_inputs([Path(path) for path in inputs])
    options = ReadOptions(scale, patient_id, suffix, all_genes, probe_map, layer, gene_names, patient_map or ())
    results = read_inputs(sorted_inputs, options)
    scales = sorted({result.content.scale for result in results})
    if len(scales) > 1:
        raise InputError(
            f"the inputs are on different scales ({', '.join(scales)}); build one table for each scale, from its inputs alone"
        )
    table, stack_notes = _stack([result.content.table for result in results])
    assignment = patients_of_samples(list(table.index), patient_map)
    kept = [name for name in assignment.patients if name is not None]
    table, average_notes = average_patients(table[[name is not None for name in assignment.patients]], kept)
    table, empty_notes = without_empty_patients(table, ", ".join(str(path) for path in inputs[:2]))
    counts = Counter({"files_ignored": sorted_inputs.ignored})
    input_notes = (result.content.notes for result in results)
    for notes in (*input_notes, stack_notes, assignment.counts, average_notes, empty_notes):
        counts.update(notes)
    provenance = _provenance(results, table, counts, scale is not None, assignment.without_tumor)
    return Expression(table, scales[0], provenance)


def _provenance(
    results: Sequence[ReadInput],
    table: pd.DataFrame,
    counts: Mapping[str, int],
    scale_is_stated: bool,
    patients_without_tumor: Sequence[str],
) -> dict[str, Any]:
    """What a table was made of, and what was mapped, merged and dropped on the way."""
    units = [result.content.unit for result in results if result.content.unit]
    return {
        "dmml": __version__,
        "sources": [file_source(path, result.format_key) for result in results for path in result.files],
        "counts": {reason: count for reason, count in counts.items() if count},
        "scale_stated": scale_is_stated,
        "scale": results[0].content.scale,
        **({"read_as": list(dict.fromkeys(units))} if units else {}),
        **({"patients_without_tumor_rna": list(patients_without_tumor)} if patients_without_tumor else {}),
        "patients": len(table),
        "genes": table.shape[1],
        "names": GeneMapping.combine(result.content.genes for result in results).to_dict(),
    }


def read_expression(spec: str | Path | Mapping[str, Any]) -> Expression:
    """Read a cohort's RNA table.

    Args:
        spec: A path to a parquet file from `dmml cohort expression` or to anything that `build_expression` reads; or
            `{path, patient_id, suffix, scale, patients, probes, layer, gene_names}`, all but `path` optional.

    Raises:
        InputError: See `build_expression`.
    """
    options: dict[str, Any] = dict(spec) if isinstance(spec, Mapping) else {"path": spec}
    unknown = set(options) - {"path", "scale", *_KEYS}
    if unknown or not options.get("path"):
        problem = f"unknown key {sorted(unknown)[0]!r}" if unknown else "no path"
        raise InputError(f"expression: {problem}; give a path, or {{path, scale, {', '.join(_KEYS)}}}")
    path = Path(options.pop("path"))
    if path.suffix == ".parquet" and (content := read_expression_file(path)):
        for option in _KEYS:
            if options.get(option):
                raise InputError(
                    f"expression: {option} does not apply to {path}, because `dmml cohort expression` has already written it with "
                    f"patients and gene symbols; leave {option} out, or use it with that command"
                )
        return _from_expression_file(path, *content, options.get("scale"))
    return build_expression([path], **options)


def check_output(out: Path, overwrite: bool) -> None:
    """Check the output path, so that a wrong one is refused before any input is read.

    Raises:
        InputError: `out` does not end with `.parquet`, or exists and may not be overwritten.
    """
    if out.suffix != ".parquet":
        raise InputError(f"{out}: the table is written as parquet; name the file {out.with_suffix('.parquet')}")
    if out.exists() and not overwrite:
        raise InputError(f"{out}: already exists; add --overwrite, or name another file")


def write_expression(expression: Expression, out: str | Path, overwrite: bool = False) -> Path:
    """Write the table as parquet, with its provenance inside the file and in `<out>.json`.

    Raises:
        InputError: `out` does not end with `.parquet`, or exists and may not be overwritten.
    """
    out = Path(out)
    check_output(out, overwrite)
    write_expression_file(expression.table, {**expression.provenance, "scale": expression.scale}, out)
    return out


def _from_expression_file(
    path: Path, matrix: Matrix, provenance: dict[str, Any], stated_scale: str | None
) -> Expression:
    """Build the `Expression` of a table that `write_expression` wrote."""
    scale: str = provenance["scale"]
    if stated_scale not in (None, scale):
        scale = settle_scale(matrix.values, stated_scale, str(path))
    index = pd.Index(matrix.samples, dtype=object, name="patient_id")
    table = pd.DataFrame(matrix.values, index=index, columns=matrix.genes)
    table, empty_notes = without_empty_patients(table, str(path))
    if empty_notes:
        provenance = {**provenance, "counts": {**provenance.get("counts", {}), **empty_notes}}
    return Expression(table, scale, provenance)


def _stack(tables: list[pd.DataFrame]) -> tuple[pd.DataFrame, dict[str, int]]:
    """Stack the samples of all inputs, with the genes that every input has, and count the genes dropped."""
    if len(tables) == 1:
        return tables[0], {}
    stacked = pd.concat(tables, join="inner")
    if stacked.shape[1] == 0:
        raise InputError("the inputs have no gene in common; check that all of them are of human genes")
    if stacked.index.has_duplicates:
        repeated = stacked.index[stacked.index.duplicated()][0]
        raise InputError(f"sample {repeated!r} is in two inputs; leave one of them out")
    all_genes = set().union(*(table.columns for table in tables))
    return stacked, {"genes_not_in_every_input_dropped": len(all_genes) - stacked.shape[1]}


def file_source(path: Path, form: str) -> dict[str, str]:
    """Name, format and SHA-256 of a source file, for the provenance."""
    with path.open("rb") as file:
        return {"file": path.name, "form": form, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
