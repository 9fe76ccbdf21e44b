"""Which patient a sample is of: a map, a GDC sample sheet, or a TCGA barcode."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from dmml.cohort.tables import open_table, read_rows
from dmml.errors import InputError

# TCGA-<site>-<participant>-<sample type and vial>…; types 01-09 are tumor, 10-19 normal, 20-29 controls.
_BARCODE = re.compile(r"(TCGA-\w{2}-\w{4})-(\d{2})[A-Z]?(?:-.*)?")
_SAMPLE_COLUMNS = ("sample", "file", "sample_id", "file_name", "File Name")
_TISSUE_COLUMNS = ("Sample Type", "Tissue Type")  # the portal's sheets before and since 2024
_PATIENT_COLUMNS = ("patient_id", "case_id", "Case ID")


def read_patient_map(path: Path) -> dict[str, str | None]:
    """{sample: patient id} from a CSV `sample,patient_id` or a sample sheet of the GDC; None for normal tissue.

    A sample may be given as file name or as the name up to its first dot.

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
    mapping: dict[str, str | None] = {}
    for index, row in rows.iterrows():
        if row[sample] is None or row[patient] is None:
            raise InputError(
                f"{path}: line {table.line_of(index)} lacks {sample} or {patient}; fill it or drop the row"
            )
        normal = any("normal" in (row[name] or "").lower() for name in tissue)
        # The sheet of a file with two cases names both, separated by a comma: they are the same patient.
        who = None if normal else row[patient].split(",")[0].strip()
        for name in {row[sample], row[sample].split(".")[0]}:
            if mapping.setdefault(name, who) != who:
                raise InputError(f"{path}: sample {name!r} is given to both {mapping[name]} and {who}; correct one")
    return mapping


def patients_of_samples(
    samples: list[str], mapping: dict[str, str | None] | None
) -> tuple[list[str | None], dict[str, int]]:
    """The patient of each sample, None for those to leave out, and how many these are, by reason.

    Without a map, TCGA barcodes are cut to the patient and normal tissue is left out; other names are patient ids.

    Raises:
        InputError: No sample is left.
    """
    patients: list[str | None] = []
    normal = unmapped = 0
    for sample in samples:
        if mapping is not None:
            known = sample in mapping
            patient = mapping.get(sample)
            normal += known and patient is None
            unmapped += not known
        elif barcode := _BARCODE.fullmatch(sample):
            patient = barcode[1] if int(barcode[2]) < 10 else None
            normal += patient is None
        else:
            patient = sample
        patients.append(patient)
    if not any(patients):
        raise InputError(
            f"none of the {len(samples)} samples ({', '.join(samples[:3])}, …) "
            + (
                "stands in the patient map; its column sample must hold these names"
                if mapping is not None
                else "is of a tumor"
            )
        )
    dropped = {"normal_samples_dropped": int(normal), "samples_not_in_map_dropped": int(unmapped)}
    return patients, dropped


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
