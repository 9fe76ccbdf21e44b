"""Reads patients, slides, outcomes and covariates from one table with one row per slide or per patient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd

from dmml.cohort.clinical.covariate_columns import check_covariates, read_covariates
from dmml.cohort.clinical.event_direction import check_direction, check_values
from dmml.cohort.clinical.outcome import Outcome, parse_outcome, read_outcome
from dmml.cohort.clinical.plausibility import check_time_unit
from dmml.cohort.clinical.stated_covariates import parse_covariates
from dmml.cohort.id_matching import match_ids_one_to_one
from dmml.cohort.tables.id_columns import check_repeated_header, read_ids
from dmml.cohort.tables.text_table import TextTable, open_table, read_rows, require_column
from dmml.errors import InputError

SLIDE_SUFFIXES = (
    ".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".vms", ".vmu", ".dcm", ".czi",
    ".png", ".jpg", ".jpeg", ".bmp",
)  # fmt: skip
_FIRST_COLUMN = {
    "survival": "time",
    "classification": "label",
    "regression": "value",
}  # its outcome is known where this is
_BARCODE = r"^TCGA-(\w{2})-\w{4}$"


@dataclass
class Clinical:
    """Clinical data of the patients of a cohort."""

    patients: pd.DataFrame
    """One row per patient, index patient_id (str, in file order). Columns: `time` (days) and `event` (1 = happened), or
    `label`, or `value` (float64), if an outcome was named; `site`, if sites are known. NaN or None where a value is unknown."""
    covariates: pd.DataFrame
    """Same index; float64 if every known value is a number, else str."""
    slides: dict[str, list[str]]
    """{patient: slide ids}; the lists are empty if the table names no slides."""
    source: str
    names_slides: bool = False
    """Whether the table has a column of slides."""
    site_conflicts: list[str] = field(default_factory=list)
    """Patients whose rows name several sites."""
    covariate_conflicts: dict[str, list[str]] = field(default_factory=dict)
    """{covariate: patients whose rows hold several values, of which the first is used}."""
    covariate_levels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """{covariate: levels in the order that the config states; () if it states that they have no order}."""

    @property
    def kind(self) -> str | None:
        """`survival`, `classification`, `regression`, or None without an outcome."""
        return next((kind for kind, column in _FIRST_COLUMN.items() if column in self.patients), None)

    @property
    def observed(self) -> pd.Series:
        """Whether the outcome of each patient is known."""
        if self.kind is None:
            return pd.Series(False, index=self.patients.index)
        return self.patients[_FIRST_COLUMN[self.kind]].notna()

    @property
    def classes(self) -> list[str]:
        """Sorted labels that occur; empty unless the outcome is a label."""
        return sorted(self.patients["label"].dropna().unique()) if self.kind == "classification" else []

    def match_slides(self, available: Iterable[str]) -> dict[str, list[str]]:
        """Match the available slides to patients.

        If the table names slides, those are used (`1040.0` matches the slide `1040`). Otherwise a slide belongs to the
        patient whose id it equals, or begins with, followed by a separator (`TCGA-05-4249` →
        `TCGA-05-4249-01Z-00-DX1`); the longest such patient id wins.

        Args:
            available: Ids of existing slides, for example those of a feature store.

        Returns:
            {patient: slide ids} for every patient, in the table's order, or sorted if the table names no slides.
        """
        available = set(available)
        if self.names_slides:
            named = [slide for slides in self.slides.values() for slide in slides]
            matched = {slide: slide for slide in available} | match_ids_one_to_one(named, available, self.source)
            return {
                patient: [matched[slide] for slide in slides if slide in matched]
                for patient, slides in self.slides.items()
            }
        slides_of: dict[str, list[str]] = {patient: [] for patient in self.patients.index}
        for slide in sorted(available):
            ends = [len(slide), *(i for i in range(len(slide) - 1, 0, -1) if slide[i] in "-_. ")]
            patient = next((slide[:end] for end in ends if slide[:end] in slides_of), None)
            if patient is not None:
                slides_of[patient].append(slide)
        return slides_of


def read_clinical(
    path: str | Path,
    patient_id: str = "patient_id",
    slide_id: str | None = "slide_id",
    site: str | None = "site",
    outcome: Mapping[str, object] | None = None,
    covariates: Sequence[str | Mapping[str, object]] | None = None,
) -> Clinical:
    """Read a clinical table.

    Args:
        path: CSV or TSV, optionally zipped or gzipped, with one row per slide or per patient.
        patient_id: Column of the patient ids.
        slide_id: Column of the slides (ids or file names); None for none. It may be missing under its default name.
        site: Column of the sites; None for none. It may be missing under its default name. Without it, sites are the
            source sites in TCGA barcodes.
        outcome: See `parse_outcome`; with None, no outcome is read.
        covariates: Columns for clinical models, and their levels; see `parse_covariates`.

    Raises:
        InputError: A column is missing (the message lists the existing ones), a value is invalid (the message gives the
            line), the rows of a patient contradict each other in the outcome, or a slide belongs to two patients.
    """
    table = open_table(path)
    require_column(table, patient_id, "patient_id")
    slide_id = _optional(table, slide_id, "slide_id")
    site = _optional(table, site, "site")
    parsed_outcome = Outcome() if outcome is None else parse_outcome(outcome)
    stated_levels = parse_covariates(covariates)
    check_covariates(path, parsed_outcome, list(stated_levels))
    for column in stated_levels:
        require_column(table, column, "covariates")
    for column in parsed_outcome.columns:
        require_column(table, column, "outcome")
    rows, patient_of_row = _read_patient_rows(
        table, patient_id, [slide_id, site, *parsed_outcome.columns, *stated_levels]
    )
    ids = pd.Index(patient_of_row.unique(), dtype=object, name="patient_id")
    patients = pd.DataFrame(index=ids)
    if outcome is not None:
        outcome_of_rows = _read_outcome(table, rows, parsed_outcome)
        patients = _one_row_per_patient(table, patient_of_row, outcome_of_rows, parsed_outcome).reindex(ids)
    site_conflicts = _add_sites(patients, rows, patient_of_row, site)
    covariate_values, covariate_conflicts = read_covariates(table, rows, patient_of_row, stated_levels)
    return Clinical(
        patients=patients,
        covariates=covariate_values.reindex(ids),
        slides=_slides(table, rows, patient_of_row, slide_id),
        source=str(path),
        names_slides=slide_id is not None,
        site_conflicts=site_conflicts,
        covariate_conflicts=covariate_conflicts,
        covariate_levels={column: levels for column, levels in stated_levels.items() if levels is not None},
    )


def _read_patient_rows(
    table: TextTable, patient_id: str, columns: Sequence[str | None]
) -> tuple[pd.DataFrame, pd.Series]:
    """Read columns of a table, and the patient of each row, whose id is checked."""
    names = [patient_id, *(name for name in columns if name is not None)]
    rows = read_rows(table, list(dict.fromkeys(names)))
    if rows.empty:
        raise InputError(f"{table.path}: has a header but no patient; add at least one row")
    if rows[patient_id].isna().any():
        line = table.line_of(rows.index[rows[patient_id].isna()][0])
        raise InputError(f"{table.path}: line {line} has no {patient_id}; add it, or delete the row")
    check_repeated_header(table, rows, patient_id)
    rows[patient_id] = patient_of_row = read_ids(table, rows[patient_id])
    return rows, patient_of_row


def _read_outcome(table: TextTable, rows: pd.DataFrame, outcome: Outcome) -> pd.DataFrame:
    """Read the outcome of each row, after checking the meaning of the event column and the unit of time."""
    if outcome.time is None:
        return read_outcome(table, rows, outcome)
    flags = rows[outcome.event or outcome.censored]
    check_values(table, flags, outcome)
    check_direction(table, flags, outcome)
    outcome_of_rows = read_outcome(table, rows, outcome)
    check_time_unit(table.path, outcome, outcome_of_rows["time"])
    return outcome_of_rows


def _add_sites(patients: pd.DataFrame, rows: pd.DataFrame, patient_of_row: pd.Series, site: str | None) -> list[str]:
    """Add the site in place; without a column, use the tissue source site if all ids are TCGA barcodes (second field).

    Returns:
        Patients whose rows name several sites.
    """
    if site is None:
        codes = patients.index.to_series().str.extract(_BARCODE, expand=False)
        if codes.notna().all():
            patients["site"] = codes
        return []
    by_patient = rows.groupby(patient_of_row, sort=False)[site]
    patients["site"] = by_patient.first().reindex(patients.index)
    several = by_patient.nunique() > 1
    return [str(name) for name in several.index[several]]


def slide_stem(name: str) -> str:
    """Slide id from an id, a file name or a path: the last part of the path without the file ending of a slide."""
    name = PurePosixPath(name.replace("\\", "/")).name
    return name[: name.rindex(".")] if name.lower().endswith(SLIDE_SUFFIXES) else name


def _optional(table: TextTable, column: str | None, option: str) -> str | None:
    """Check a column that may be missing under its default name (that of the option), but not under another name."""
    if column is None or (column == option and column not in table.columns):
        return None
    return require_column(table, column, option)


def _one_row_per_patient(
    table: TextTable, patient_of_row: pd.Series, rows: pd.DataFrame, outcome: Outcome
) -> pd.DataFrame:
    """Reduce outcomes to the known one of each patient; rows that contradict each other are refused."""
    grouped = rows.groupby(patient_of_row, sort=False)
    several = grouped.nunique() > 1
    for column in rows.columns:
        if several[column].any():
            patient = several.index[several[column]][0]
            values = rows.loc[patient_of_row == patient, column].dropna().unique()[:2]
            named = {"time": outcome.time, "event": outcome.event or outcome.censored}.get(column, outcome.columns[0])
            both = " and ".join(f"{value:g}" if isinstance(value, float) else repr(value) for value in values)
            meaning = {"time": " days", "event": " (1 = happened)"}.get(column, "")
            raise InputError(
                f"{table.path}: patient {patient} has both {both}{meaning} in {named!r}; correct one of the rows"
            )
    return grouped.first()


def _slides(
    table: TextTable, rows: pd.DataFrame, patient_of_row: pd.Series, column: str | None
) -> dict[str, list[str]]:
    slides: dict[str, list[str]] = {str(name): [] for name in patient_of_row.unique()}
    patient_of: dict[str, str] = {}
    names = read_ids(table, rows[column], patients=False) if column else [None] * len(rows)
    for patient, name in zip(patient_of_row, names, strict=True):
        if name is None:
            continue
        stem = slide_stem(name)
        if patient_of.setdefault(stem, patient) != patient:
            raise InputError(
                f"{table.path}: slide {stem} belongs to both {patient_of[stem]} and {patient}; a slide has one patient, so correct "
                "one of the rows"
            )
        if stem not in slides[patient]:
            slides[patient].append(stem)
    return slides
