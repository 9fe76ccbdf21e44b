"""Assigns RNA samples to patients, by a patient map, by a sample sheet of the GDC, or by TCGA barcodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dmml.cohort.id_matching import decimal_variant
from dmml.cohort.rna.samples.sample_names import names_of_columns
from dmml.cohort.rna.samples.tissue import (
    REASONS_TO_DROP,
    Tissue,
    describes_tissue,
    find_barcode,
    spellings_of_barcode,
    tissue_of,
)
from dmml.cohort.tables.id_columns import read_ids
from dmml.cohort.tables.text_table import TextTable, open_table, read_rows
from dmml.errors import InputError

_SAMPLE_COLUMNS = ("sample", "file", "sample_id", "file_name", "File Name")
_FILE_COLUMNS = ("file", "file_name", "File Name")
_PATIENT_COLUMNS = ("patient_id", "case_id", "Case ID")
_NAME_COLUMNS = {*_SAMPLE_COLUMNS, *_PATIENT_COLUMNS}


class Sample(NamedTuple):
    """Patient and tissue of a sample."""

    patient: str
    tissue: Tissue


class PatientsOfSamples(NamedTuple):
    """Patients of the rows of a table of samples."""

    patients: list[str | None]
    """Patient of each sample; None for samples to leave out."""
    counts: dict[str, int]
    """{reason: number of samples left out}."""
    without_tumor: list[str]
    """Patients who have samples of normal tissue (or a cell line), but none of a tumor."""


def read_patient_map(path: Path) -> dict[str, Sample]:
    """Read {sample: patient and tissue} from a CSV `sample,patient_id` or a GDC sample sheet.

    Besides its name in the table, a sample can be looked up by its file name up to the first dot and by its barcode in
    any spelling, if these belong to one patient only. Normal tissue is recognised by the descriptions in the sheet and
    by every barcode in the row.

    Raises:
        InputError: A column or a value is missing, or a sample has two patients or two kinds of tissue.
    """
    table = open_table(path)
    sample, patient = _column(table, _SAMPLE_COLUMNS), _column(table, _PATIENT_COLUMNS)
    if sample is None or patient is None:
        raise InputError(
            f"{path}: a patient map needs the columns sample and patient_id (or File Name and Case ID, as in a sample sheet "
            f"of the GDC); its columns are: {', '.join(table.columns)}"
        )
    descriptions, barcodes = tissue_columns(table)
    rows = read_rows(table, list(dict.fromkeys([sample, patient, *descriptions, *barcodes])))
    rows[patient] = read_ids(table, rows[patient])
    rows[sample] = read_ids(table, rows[sample], patients=False)
    mapping: dict[str, Sample] = {}
    aliases: dict[str, set[Sample]] = {}  # {another name of a sample: samples that have it}
    for index, row in rows.iterrows():
        name = row[sample]
        if name is None or row[patient] is None:
            raise InputError(
                f"{path}: line {table.line_of(index)} has no {sample if name is None else patient}; add it, or delete the row"
            )
        barcode_names = [row[column] or "" for column in barcodes]
        entry = _entry(name, row[patient], barcode_names, " ".join(row[column] or "" for column in descriptions))
        if mapping.setdefault(name, entry) != entry:
            raise InputError(
                f"{path}: sample {name!r} is assigned to both {_difference(mapping[name], entry)}; correct one of the rows"
            )
        if sample in _FILE_COLUMNS:
            aliases.setdefault(name.split(".")[0], set()).add(entry)
        for alias in (name, *barcode_names):
            for spelling in spellings_of_barcode(alias.split(",")[0])[:1]:
                aliases.setdefault(spelling, set()).add(entry)
    # RNA tables whose columns are alignment files (/data/P1.bam) are read with short sample names: map these, too.
    short = dict(zip(names_of_columns(list(mapping)), mapping.values(), strict=True))
    unique_aliases = {alias: entries.pop() for alias, entries in aliases.items() if len(entries) == 1}
    return unique_aliases | short | mapping


def _entry(name: str, patient: str, barcode_names: Sequence[str], description: str) -> Sample:
    """Patient and tissue of a sample, from the fields of its row."""
    # The sheet of a file with two cases names both, separated by a comma: they are the same patient.
    patient = patient.split(",")[0].strip()
    tissue = tissue_of([name, patient, *barcode_names], description)
    barcode = find_barcode(patient)
    return Sample(barcode.patient if barcode else patient, tissue)


def tissue_columns(table: TextTable) -> tuple[list[str], list[str]]:
    """Columns of a sample sheet that describe the tissue in words (under any name), and those that hold a barcode."""
    columns = [name for name in table.columns if table.columns.count(name) == 1]
    rows = read_rows(table, columns)
    descriptions = [
        name for name in columns if name not in _NAME_COLUMNS and describes_tissue(name, rows[name].dropna().unique())
    ]
    return descriptions, [name for name in columns if _plain(name) == "sample_id"]


def _column(table: TextTable, names: Sequence[str]) -> str | None:
    """The first of several columns that the table has, spelled exactly or else in another case (SAMPLE_ID)."""
    exact = next((name for name in names if name in table.columns), None)
    plain = {_plain(name) for name in names}
    return exact or next((name for name in table.columns if _plain(name) in plain), None)


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_")


def _difference(first: Sample, second: Sample) -> str:
    """Name two contradicting entries of a sample by their patients, or by their tissues if the patient is the same."""
    if first.patient != second.patient:
        return f"{first.patient} and {second.patient}"
    return f"{first.tissue.value} and {second.tissue.value}"


def patients_of_samples(samples: list[str], mapping: Mapping[str, Sample] | None) -> PatientsOfSamples:
    """Find the patient of each sample, and count the samples that are left out.

    Normal tissue and controls (sample types 10 to 29) are left out, with or without a map. Without a map, TCGA barcodes
    are cut to the patient, and other names are taken as patient ids. If a patient has samples of a primary tumor, the
    other samples are left out.

    Raises:
        InputError: No sample is left.
    """
    entries = [_find(sample, mapping) for sample in samples]
    with_primary = {entry.patient for entry in entries if entry and entry.tissue is Tissue.PRIMARY}
    counts: Counter[str] = Counter()
    patients: list[str | None] = []
    for entry in entries:
        reason = _reason_to_drop(entry, with_primary)
        counts.update([reason] if reason else [])
        patients.append(None if reason or entry is None else entry.patient)
    if not any(patients):
        raise InputError(_describe_no_patient(samples, entries, mapping is not None))
    kept = set(patients)
    others = (entry.patient for entry in entries if entry and entry.patient not in kept)
    without_tumor = list(dict.fromkeys(others))
    return PatientsOfSamples(patients, dict(counts), without_tumor)


def _find(name: str, mapping: Mapping[str, Sample] | None) -> Sample | None:
    """Look up a sample by its name; None if the map lacks it. A barcode of normal tissue overrides the map's tissue."""
    tissue, barcode = tissue_of([name]), find_barcode(name)
    if mapping is None:
        return Sample(barcode.patient if barcode else name, tissue)
    variant = decimal_variant(name)
    keys = [name, *([variant] if variant else []), *spellings_of_barcode(name)]
    listed = next((mapping[key] for key in keys if key in mapping), None)
    return listed._replace(tissue=tissue) if listed and not tissue.is_tumor else listed


def _reason_to_drop(sample: Sample | None, with_primary: set[str]) -> str | None:
    if sample is None:
        return "samples_not_in_map_dropped"
    if sample.tissue is Tissue.LATER and sample.patient in with_primary:
        return "samples_of_recurrences_or_metastases_left_out_beside_a_primary"
    return REASONS_TO_DROP.get(sample.tissue)


def _describe_no_patient(samples: list[str], entries: list[Sample | None], has_map: bool) -> str:
    none = f"none of the {len(samples)} samples ({', '.join(samples[:3])}{', …' if len(samples) > 3 else ''})"
    if has_map and not any(entries):
        return f"{none} is in the patient map; its column sample must contain these names"
    return f"{none} is of a tumor: they are normal tissue, controls or cell lines (sample types from 10 on); give RNA of tumors"
