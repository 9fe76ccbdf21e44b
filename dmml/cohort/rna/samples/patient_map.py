"""Assigns RNA samples to patients by a patient map, a GDC sample sheet or TCGA barcodes, and averages by patient."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from dmml.cohort.id_columns import read_ids
from dmml.cohort.id_matching import other_spelling
from dmml.cohort.rna.samples.sample_names import names_of_columns
from dmml.cohort.rna.samples.tissue import (
    DROPPED,
    Tissue,
    describes_tissue,
    find_barcode,
    spellings_of_barcode,
    tissue_of,
)
from dmml.cohort.tables import TextTable, open_table, read_rows
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
            f"{path}: a patient map needs the columns sample and patient_id (or File Name and Case ID of a GDC sample "
            f"sheet); there are: {', '.join(table.columns)}"
        )
    words, barcodes = tissue_columns(table)
    rows = read_rows(table, list(dict.fromkeys([sample, patient, *words, *barcodes])))
    rows[patient] = read_ids(table, rows[patient])
    rows[sample] = read_ids(table, rows[sample], patients=False)
    mapping: dict[str, Sample] = {}
    others: dict[str, set[Sample]] = {}  # {another name of a sample: samples that have it}
    for index, row in rows.iterrows():
        if row[sample] is None or row[patient] is None:
            raise InputError(
                f"{path}: line {table.line_of(index)} lacks {sample} or {patient}; fill it or drop the row"
            )
        # The sheet of a file with two cases names both, separated by a comma: they are the same patient.
        who = row[patient].split(",")[0].strip()
        names = [row[sample], who, *(row[name] or "" for name in barcodes)]
        tissue = tissue_of(names, " ".join(row[name] or "" for name in words))
        barcode = find_barcode(who)
        own = Sample(barcode.patient if barcode else who, tissue)
        name = row[sample]
        if mapping.setdefault(name, own) != own:
            raise InputError(f"{path}: sample {name!r} is given to both {_both(mapping[name], own)}; correct one")
        if sample in _FILE_COLUMNS:
            others.setdefault(name.split(".")[0], set()).add(own)
        for alias in (name, *(row[column] or "" for column in barcodes)):
            for spelling in spellings_of_barcode(alias.split(",")[0])[:1]:
                others.setdefault(spelling, set()).add(own)
    # RNA tables whose columns are alignment files (/data/P1.bam) are read with short sample names: map these, too.
    short = dict(zip(names_of_columns(list(mapping)), mapping.values(), strict=True))
    return {other: own.pop() for other, own in others.items() if len(own) == 1} | short | mapping


def tissue_columns(table: TextTable) -> tuple[list[str], list[str]]:
    """Columns of a sample sheet that describe the tissue in words (under any name), and those that hold a barcode."""
    named = {name: _plain(name) for name in table.columns if table.columns.count(name) == 1}
    rows = read_rows(table, list(named))
    words = [
        name
        for name, plain in named.items()
        if name not in _NAME_COLUMNS and describes_tissue(name, rows[name].dropna().unique())
    ]
    return words, [name for name, plain in named.items() if plain == "sample_id"]


def _column(table: TextTable, names: Sequence[str]) -> str | None:
    """The first of several columns that the table has, spelled exactly or else in another case (SAMPLE_ID)."""
    exact = next((name for name in names if name in table.columns), None)
    plain = {_plain(name) for name in names}
    return exact or next((name for name in table.columns if _plain(name) in plain), None)


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_")


def _both(first: Sample, second: Sample) -> str:
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
    found = [_find(sample, mapping) for sample in samples]
    with_primary = {sample.patient for sample in found if sample and sample.tissue is Tissue.PRIMARY}
    counts: Counter[str] = Counter()
    patients: list[str | None] = []
    for sample in found:
        reason = _reason_to_drop(sample, with_primary)
        counts.update([reason] if reason else [])
        patients.append(None if reason or sample is None else sample.patient)
    if not any(patients):
        raise InputError(_nobody(samples, found, mapping is not None))
    described = set(patients)
    others = (sample.patient for sample in found if sample and sample.patient not in described)
    without_tumor = list(dict.fromkeys(others))
    return PatientsOfSamples(patients, dict(counts), without_tumor)


def _find(name: str, mapping: Mapping[str, Sample] | None) -> Sample | None:
    """Look up a sample by its name; None if the map lacks it. A barcode of normal tissue overrides the map's tissue."""
    tissue, barcode = tissue_of([name]), find_barcode(name)
    if mapping is None:
        return Sample(barcode.patient if barcode else name, tissue)
    keys = (name, other_spelling(name), *spellings_of_barcode(name))
    listed = next((mapping[key] for key in keys if key in mapping), None)
    return listed._replace(tissue=tissue) if listed and not tissue.is_tumor else listed


def _reason_to_drop(sample: Sample | None, with_primary: set[str]) -> str | None:
    if sample is None:
        return "samples_not_in_map_dropped"
    if sample.tissue is Tissue.LATER and sample.patient in with_primary:
        return "samples_of_recurrences_or_metastases_left_out_beside_a_primary"
    return DROPPED.get(sample.tissue)


def _nobody(samples: list[str], found: list[Sample | None], mapped: bool) -> str:
    shown = f"none of the {len(samples)} samples ({', '.join(samples[:3])}{', …' if len(samples) > 3 else ''})"
    if mapped and not any(found):
        return f"{shown} is in the patient map; its column sample must hold these names"
    return f"{shown} is of a tumor: they are normal tissue, controls or cell lines (sample types from 10 on); give RNA of the tumors"


def without_values(table: pd.DataFrame, source: str) -> tuple[pd.DataFrame, dict[str, int]]:
    """Drop patients without any value, since they have no RNA, and count them.

    Args:
        table: (patients × genes).
        source: Name of the table in messages.

    Raises:
        InputError: No patient has a value.
    """
    known = np.isfinite(table.to_numpy()).any(axis=1)
    if known.all():
        return table, {}
    if not known.any():
        raise InputError(f"{source}: no patient has a single value; check that it is an RNA table")
    return table[known], {"patients_without_any_value_dropped": int((~known).sum())}


def average_patients(table: pd.DataFrame, patients: list[str]) -> tuple[pd.DataFrame, dict[str, int]]:
    """Average the samples of each patient, giving one row per patient in order of first appearance.

    Args:
        table: (samples × genes).
        patients: The patient of each row.

    Returns:
        (patients × genes) float32, and the counts of patients whose samples were equal and of those that differed.
    """
    index = pd.Index(patients, dtype=object, name="patient_id")
    if not index.has_duplicates:
        return table.set_axis(index), {}
    values = table.to_numpy()
    codes, unique = pd.factorize(index)
    rows, equal, differing = [], 0, 0
    for code in range(len(unique)):
        own = values[codes == code]
        if len(own) > 1:
            same = bool(np.all((own == own[0]) | (np.isnan(own) & np.isnan(own[0]))))
            equal += same
            differing += not same
        known = np.isfinite(own)
        total = np.where(known, own, 0.0).sum(axis=0, dtype=np.float64)
        mean = np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)
        rows.append(own[0] if len(own) == 1 else mean.astype(np.float32))
    frame = pd.DataFrame(np.stack(rows), index=pd.Index(unique, dtype=object, name="patient_id"), columns=table.columns)
    return frame, {"patients_with_equal_rows_merged": equal, "patients_with_samples_averaged": differing}
