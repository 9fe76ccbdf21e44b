"""Which patient a sample is of: a map, a GDC sample sheet, or a TCGA barcode."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from dmml.cohort.tables import open_table, read_rows
from dmml.errors import InputError

# TCGA-<site>-<participant>-<sample type and vial>…; types 01-09 are tumor, 10-19 normal, 20-29 controls.
_BARCODE = re.compile(r"(TCGA-\w{2}-\w{4})-(\d{2})[A-Z]?(?:-.*)?")
_PRIMARY_TYPES = {"01", "03", "05", "09"}  # 02, 04 and 40 are of recurrences, 06 and 07 of metastases
_SAMPLE_COLUMNS = ("sample", "file", "sample_id", "file_name", "File Name")
_FILE_COLUMNS = ("file", "file_name", "File Name")
_TISSUE_COLUMNS = ("Sample Type", "Tissue Type", "Tumor Descriptor")  # the portal's sheets before and since 2024
_PATIENT_COLUMNS = ("patient_id", "case_id", "Case ID")


class Sample(NamedTuple):
    """What a map says of a sample."""

    patient: str | None
    """None for normal tissue"""
    primary: bool
    """whether it is not of a recurrence or a metastasis"""


def is_primary(tissue: str) -> bool:
    """Whether words on a tissue do not say that it is of a recurrence or a metastasis alone."""
    tissue = tissue.lower()
    return "primary" in tissue or not re.search("recurr|metast", tissue)


def read_patient_map(path: Path) -> dict[str, Sample]:
    """{sample: its patient} from a CSV `sample,patient_id` or a sample sheet of the GDC.

    A file's sample goes by the file's name too up to its first dot, where that is of one patient.

    Raises:
        InputError: A column is missing, or a sample is given to two patients.
    """
    table = open_table(path)
    sample = next((name for name in _SAMPLE_COLUMNS if name in table.columns), None)
    patient = next((name for name in _PATIENT_COLUMNS if name in table.columns), None)
    if sample is None or patient is None:
        raise InputError(
            f"{path}: a patient map needs the columns sample and patient_id (or File Name and Case ID of a GDC sample "
            f"sheet); there are: {', '.join(table.columns)}"
        )
    tissue = [name for name in _TISSUE_COLUMNS if name in table.columns]
    rows = read_rows(table, [sample, patient, *tissue])
    mapping: dict[str, Sample] = {}
    stems: dict[str, set[Sample]] = {}
    for index, row in rows.iterrows():
        if row[sample] is None or row[patient] is None:
            raise InputError(
                f"{path}: line {table.line_of(index)} lacks {sample} or {patient}; fill it or drop the row"
            )
        words = " ".join(row[name] or "" for name in tissue)
        # The sheet of a file with two cases names both, separated by a comma: they are the same patient.
        who = None if "normal" in words.lower() else row[patient].split(",")[0].strip()
        name, own = row[sample], Sample(who, _is_primary_sample(row[sample], words))
        if mapping.setdefault(name, own) != own:
            both = f"{mapping[name].patient or 'normal tissue'} and {who or 'normal tissue'}"
            raise InputError(f"{path}: sample {name!r} is given to both {both}; correct one")
        if sample in _FILE_COLUMNS:
            stems.setdefault(name.split(".")[0], set()).add(own)
    return {stem: own.pop() for stem, own in stems.items() if len(own) == 1} | mapping


def _is_primary_sample(sample: str, words: str = "") -> bool:
    """By the words on its tissue, else by the type in a barcode; other names tell nothing."""
    barcode = _BARCODE.fullmatch(sample)
    return is_primary(words) if words.strip() or barcode is None else barcode[2] in _PRIMARY_TYPES


def patients_of_samples(
    samples: list[str], mapping: Mapping[str, Sample] | None
) -> tuple[list[str | None], dict[str, int]]:
    """The patient of each sample, None for those to leave out, and how many these are, by reason.

    Without a map, TCGA barcodes are cut to the patient and normal tissue is left out; other names are patient ids. A
    patient with samples of a primary tumor is described by these alone.

    Raises:
        InputError: No sample is left.
    """
    patients: list[str | None] = []
    primary: list[bool] = []
    normal = unmapped = 0
    for sample in samples:
        if mapping is not None:
            found = mapping.get(sample)
            patient = found.patient if found else None
            normal += found is not None and patient is None
            unmapped += found is None
        elif barcode := _BARCODE.fullmatch(sample):
            patient = barcode[1] if int(barcode[2]) < 10 else None
            normal += patient is None
        else:
            patient = sample
        patients.append(patient)
        named = mapping.get(sample) if mapping is not None else None
        primary.append(named.primary if named else _is_primary_sample(sample))
    if not any(patients):
        raise InputError(
            f"none of the {len(samples)} samples ({', '.join(samples[:3])}, …) "
            + (
                "stands in the patient map; its column sample must hold these names"
                if mapping is not None
                else "is of a tumor"
            )
        )
    with_primary = {patient for patient, own in zip(patients, primary, strict=True) if own}
    beside = [p is not None and p in with_primary and not own for p, own in zip(patients, primary, strict=True)]
    dropped = {
        "normal_samples_dropped": int(normal),
        "samples_not_in_map_dropped": int(unmapped),
        "samples_of_recurrences_or_metastases_left_out_beside_a_primary": sum(beside),
    }
    return [None if out else patient for patient, out in zip(patients, beside, strict=True)], dropped


def without_values(table: pd.DataFrame, source: str) -> tuple[pd.DataFrame, dict[str, int]]:
    """The table without patients of whom it has no number, and how many these are; they have no RNA.

    Args:
        table: (patients × genes).
        source: The table's name, for the message.

    Raises:
        InputError: No patient has a number.
    """
    known = np.isfinite(table.to_numpy()).any(axis=1)
    if known.all():
        return table, {}
    if not known.any():
        raise InputError(f"{source}: no patient has a single value; check that it is an RNA table")
    return table[known], {"patients_without_any_value_dropped": int((~known).sum())}


def average_patients(table: pd.DataFrame, patients: list[str]) -> tuple[pd.DataFrame, dict[str, int]]:
    """One row a patient, in order of first appearance: samples of one patient are averaged.

    Args:
        table: (samples × genes).
        patients: The patient of each row.

    Returns:
        (patients × genes) float32 and the counts of patients with equal and with differing samples.
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
