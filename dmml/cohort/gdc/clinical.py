"""Reads clinical data as exported by the GDC (TSV, JSON, or an archive of TSVs) into one row per patient."""

from __future__ import annotations

import io
import json
import re
import tarfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from dmml.cohort.tables.id_columns import read_ids
from dmml.cohort.tables.text_table import MISSING, open_table, read_rows
from dmml.errors import InputError

# The portal has renamed its columns over the years; JSON nests the same names.
FIELDS = {
    "patient_id": ("case_submitter_id", "cases.submitter_id", "submitter_id", "bcr_patient_barcode"),
    "project": ("project_id", "project.project_id", "cases.project.project_id"),
    "vital": ("vital_status", "demographic.vital_status"),
    "death": ("days_to_death", "demographic.days_to_death"),
    "last": (
        "days_to_last_follow_up", "diagnoses.days_to_last_follow_up", "days_to_follow_up", "follow_ups.days_to_follow_up",
    ),
    "age": ("age_at_index", "demographic.age_at_index"),
    "age_days": ("age_at_diagnosis", "diagnoses.age_at_diagnosis"),
    "sex": ("gender", "demographic.gender", "sex_at_birth", "demographic.sex_at_birth"),
    "stage": ("ajcc_pathologic_stage", "diagnoses.ajcc_pathologic_stage", "figo_stage", "diagnoses.figo_stage"),
    "grade": ("tumor_grade", "diagnoses.tumor_grade"),
    "diagnosis": ("primary_diagnosis", "diagnoses.primary_diagnosis"),
    "primary": ("diagnosis_is_primary_disease", "diagnoses.diagnosis_is_primary_disease"),
}  # fmt: skip
_PER_DIAGNOSIS = ("stage", "grade", "diagnosis", "age_days")
_ARCHIVED = ("clinical.tsv", "follow_up.tsv")
_UNKNOWN = {"unknown", "not allowed to collect", "gx", "not reported", "unspecified"}


class _Value(NamedTuple):
    """A value from one row of an export."""

    text: str
    of_primary: bool
    """Whether the row is not marked as one of another diagnosis than the primary one."""


_Fields = Mapping[str, list[_Value]]
"""{name as in `FIELDS`: values from all rows of a patient}"""


def read_gdc_clinical(paths: Sequence[str | Path]) -> tuple[pd.DataFrame, dict[str, str]]:
    """Read the files that the portal's buttons "TSV" and "JSON" give, one or several with the same cases.

    Time is days from diagnosis to death, or to the latest follow-up in any row.

    Args:
        paths: `clinical.tsv`, `follow_up.tsv`, the `.tar.gz` that contains them, or a JSON of cases.

    Returns:
        Table indexed by patient_id with `project`, `site` (from a TCGA barcode), `os_days`, `os_event` (1 = died; both
        empty where unknown), `age` (years), `sex`, `stage` (0, I to IV), `grade`, `diagnosis`; and {patient: why the
        outcome is unknown}.

    Raises:
        InputError: A file is missing, has none of these formats or contains no case.
    """
    fields_of: dict[str, dict[str, list[_Value]]] = defaultdict(lambda: defaultdict(list))
    for path in map(Path, paths):
        for row in _rows(path):
            values = {name: _first(row, columns) for name, columns in FIELDS.items()}
            if values["patient_id"] is None:
                continue
            of_primary = (values["primary"] or "true").lower() == "true"
            for name, value in values.items():
                if value is not None:
                    fields_of[values["patient_id"]][name].append(_Value(value, of_primary))
    if not fields_of:
        raise InputError(f"{', '.join(map(str, paths))}: contains no case; export the clinical data of the cart again")
    records, reasons = [], {}
    for patient, fields in fields_of.items():
        days, event, reason = _outcome(fields)
        records.append({"patient_id": patient, **_covariates(patient, fields), "os_days": days, "os_event": event})
        if reason:
            reasons[patient] = reason
    order = ["patient_id", "project", "site", "os_days", "os_event", "age", "sex", "stage", "grade", "diagnosis"]
    return pd.DataFrame(records)[order].set_index("patient_id").sort_index(), reasons


def _outcome(fields: _Fields) -> tuple[float | None, float | None, str]:
    """Outcome of a patient: days, event (1 = died), and the reason if both are unknown."""
    vital = {value.text.lower() for value in fields["vital"]} & {"alive", "dead"}
    if len(vital) != 1:
        return None, None, "vital status is not given" if not vital else "rows say both alive and dead"
    if vital == {"dead"}:
        days, reason = _latest(fields["death"]), "died, but days_to_death is empty"
    else:
        days, reason = _latest(fields["last"]), "alive, but no follow-up is given"
    if days is None:
        return None, None, reason
    if days < 0:
        return None, None, f"{'death' if vital == {'dead'} else 'last follow-up'} {-days:.0f} days before diagnosis"
    return days, float(vital == {"dead"}), ""


def _covariates(patient: str, fields: _Fields) -> dict[str, object]:
    """Covariates of a patient, taken from the primary diagnosis where the rows mark it."""
    first = _first_values(fields)
    stage = re.match(r"Stage (0|IV|I{1,3})", first.get("stage", ""), re.IGNORECASE)
    site = re.fullmatch(r"TCGA-(\w{2})-\w{4}", patient)
    age, age_in_days = _number(first.get("age")), _number(first.get("age_days"))
    if age is None and age_in_days is not None:
        age = float(int(age_in_days / 365.25))
    return {
        "project": first.get("project"),
        "site": site[1] if site else None,
        "age": age,
        "sex": first["sex"].lower() if "sex" in first else None,
        "stage": stage[1].upper() if stage else None,
        "grade": first.get("grade"),
        "diagnosis": first.get("diagnosis"),
    }


def _first_values(fields: _Fields) -> dict[str, str]:
    """The first value of each field; for fields of a diagnosis, that of the primary one if there is one.

    Where rows mark the primary diagnosis, the stage of another cancer does not replace that of the primary one.
    """
    marks_primary = any(value.text.lower() == "true" for value in fields["primary"])
    first = {}
    for name, values in list(fields.items()):
        eligible = values
        if name in _PER_DIAGNOSIS:
            of_primary = [value for value in values if value.of_primary]
            eligible = of_primary if marks_primary else of_primary or values
        if eligible:
            first[name] = eligible[0].text
    return first


def _latest(values: Iterable[_Value]) -> float | None:
    return max((number for value in values if (number := _number(value.text)) is not None), default=None)


def _number(value: str | None) -> float | None:
    try:
        return None if value is None else float(value)
    except ValueError:
        return None


def _first(row: dict[str, str], columns: Iterable[str]) -> str | None:
    """The first known value among several columns, or None."""
    for column in columns:
        value = str(row.get(column) or "").strip()
        if value.lower() not in MISSING | _UNKNOWN:
            return value
    return None


def _rows(path: Path) -> Iterator[dict[str, str]]:
    if path.name.endswith((".tar.gz", ".tgz", ".tar")):
        yield from _archived(path)
    elif path.suffix == ".json":
        yield from _cases(path)
    else:
        table = open_table(path)
        if not set(table.columns) & set(FIELDS["patient_id"]):
            raise InputError(
                f"{path}: no column {FIELDS['patient_id'][0]} (its columns are: {', '.join(table.columns[:8])}, …); export "
                "the clinical data of the cart as TSV or JSON"
            )
        wanted = [column for columns in FIELDS.values() for column in columns if table.columns.count(column) == 1]
        rows = read_rows(table, wanted)
        for column in set(wanted) & set(FIELDS["patient_id"]):
            rows[column] = read_ids(table, rows[column])
        yield from rows.to_dict("records")


def _archived(path: Path) -> Iterator[dict[str, str]]:
    try:
        with tarfile.open(path) as archive:
            members = [m for m in archive.getmembers() if m.isfile() and Path(m.name).name in _ARCHIVED]
            files = [file for member in members if (file := archive.extractfile(member)) is not None]
            texts = [file.read().decode("utf-8-sig") for file in files]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except (tarfile.TarError, EOFError, OSError, zlib.error, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0].rstrip(":")
        raise InputError(f"{path}: is not a readable archive ({reason}); download it again") from None
    if not texts:
        raise InputError(f"{path}: contains no clinical.tsv; export the clinical data of the cart as TSV or JSON")
    for text in filter(str.strip, texts):  # the follow-up file of a cart without follow-ups is empty
        try:
            frame = pd.read_csv(io.StringIO(text), sep="\t", dtype=str, keep_default_na=False)
        except pd.errors.ParserError as error:
            raise InputError(
                f"{path}: a table in this archive cannot be read ({str(error).strip()}); download it again"
            ) from None
        yield from frame.to_dict("records")


def _cases(path: Path) -> Iterator[dict[str, str]]:
    """Rows of a JSON of cases: one for each case, one for each diagnosis and one for each follow-up."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not valid JSON ({error}); download it again") from None
    if not isinstance(content, list) or not all(isinstance(case, dict) for case in content):
        raise InputError(f"{path}: is not a list of cases; export the clinical data of the cart as JSON")
    for case in content:
        patient = {"submitter_id": case.get("submitter_id")}
        yield {**patient, **_flat(case.get("project"), "project."), **_flat(case.get("demographic"), "demographic.")}
        for kind in ("diagnoses", "follow_ups"):
            for entry in case.get(kind) or []:
                yield {**patient, **_flat(entry, f"{kind}.")}


def _flat(entry: object, prefix: str) -> dict[str, str]:
    """Plain values of an entry as text, with a prefix before their names."""
    if not isinstance(entry, dict):
        return {}
    return {
        f"{prefix}{key}": str(value)
        for key, value in entry.items()
        if value is not None and not isinstance(value, (dict, list))
    }
