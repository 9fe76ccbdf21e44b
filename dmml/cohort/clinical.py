"""Patients, their slides, outcomes and covariates from one table with a row a slide or a patient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from dmml.cohort.covariate_columns import read_covariates, refuse_outcome
from dmml.cohort.event_direction import check_direction, check_values
from dmml.cohort.id_columns import check_repeated_header, read_ids
from dmml.cohort.id_matching import match_ids_once
from dmml.cohort.outcome import Outcome, parse_outcome, read_outcome
from dmml.cohort.plausibility import refuse_unit
from dmml.cohort.stated_covariates import parse_covariates
from dmml.cohort.tables import TextTable, open_table, read_rows, require_column
from dmml.errors import InputError

SLIDE_SUFFIXES = (
    ".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".vms", ".vmu", ".dcm", ".czi",
    ".png", ".jpg", ".jpeg", ".bmp",
)  # fmt: skip
_BARCODE = r"^TCGA-(\w{2})-\w{4}$"


@dataclass
class Clinical:
    """Who the patients are."""

    patients: pd.DataFrame
    """index patient_id (str, in file order); `time` (days) and `event` (1 = happened) or `label`, where an outcome was
    named; `site` where the table has one; NaN or None where unknown"""
    covariates: pd.DataFrame
    """same index; float64 where every known value is a number, else str"""
    slides: dict[str, list[str]]
    """patient → slide ids, empty where the table names none"""
    source: str
    names_slides: bool = False
    """whether the table has a column of slides"""
    site_conflicts: list[str] = field(default_factory=list)
    """patients whose rows name several sites"""
    covariate_conflicts: dict[str, list[str]] = field(default_factory=dict)
    """{covariate: patients whose rows hold several values, of which the first counts}"""
    covariate_levels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """{covariate: its levels in the order that the config states; () where it states that they have none}"""

    @property
    def kind(self) -> str | None:
        """`survival`, `classification`, or None without an outcome."""
        return "survival" if "time" in self.patients else "classification" if "label" in self.patients else None

    @property
    def observed(self) -> pd.Series:
        """Whether the outcome of each patient is known."""
        if self.kind is None:
            return pd.Series(False, index=self.patients.index)
        return self.patients["time" if self.kind == "survival" else "label"].notna()

    @property
    def classes(self) -> list[str]:
        """Labels that occur, sorted."""
        return sorted(self.patients["label"].dropna().unique()) if self.kind == "classification" else []

    def match_slides(self, available: Iterable[str]) -> dict[str, list[str]]:
        """The slides of each patient that are really there.

        Where the table names slides, these (`1040.0` is the slide `1040`); otherwise a slide whose id is the patient's or
        begins with it and a separator (`TCGA-05-4249` → `TCGA-05-4249-01Z-00-DX1`), the longest such patient id winning.

        Args:
            available: Slide ids, of a feature store for one.

        Returns:
            Every patient → slide ids in the table's (or sorted) order.
        """
        there = set(available)
        if self.names_slides:
            named = [slide for slides in self.slides.values() for slide in slides]
            matched = {slide: slide for slide in there} | match_ids_once(named, there, self.source)
            return {
                who: [matched[slide] for slide in slides if slide in matched] for who, slides in self.slides.items()
            }
        by_name: dict[str, list[str]] = {patient: [] for patient in self.patients.index}
        for slide in sorted(there):
            ends = [len(slide), *(i for i in range(len(slide) - 1, 0, -1) if slide[i] in "-_. ")]
            patient = next((slide[:end] for end in ends if slide[:end] in by_name), None)
            if patient is not None:
                by_name[patient].append(slide)
        return by_name


def read_clinical(
    path: str | Path,
    patient_id: str = "patient_id",
    slide_id: str | None = "slide_id",
    site: str | None = "site",
    outcome: Mapping[str, str] | None = None,
    covariates: Sequence[str | Mapping[str, Any]] | None = None,
) -> Clinical:
    """Read a clinical table.

    Args:
        path: CSV or TSV, also zipped or gzipped; one row a slide or a patient.
        patient_id: Column of the patient.
        slide_id: Column of the slide (an id or a file name), optional under its default name; None for none.
        site: Column of the site, optional under its default name; without it, TCGA barcodes tell their source site.
        outcome: See `parse_outcome`; None reads none.
        covariates: Columns that clinical models use, and their levels; see `parse_covariates`.

    Raises:
        InputError: A column is missing (those that are there are listed), a value is not what it should be (line
            named), rows of a patient contradict each other in the outcome, or a slide is of two patients.
    """
    table = open_table(path)
    require_column(table, patient_id, "patient_id")
    slide_id = _optional(table, slide_id, "slide_id")
    site = _optional(table, site, "site")
    parsed = Outcome() if outcome is None else parse_outcome(outcome)
    stated = parse_covariates(covariates)
    refuse_outcome(path, parsed, list(stated))
    for column in stated:
        require_column(table, column, "covariates")
    for column in parsed.columns:
        require_column(table, column, "outcome")
    wanted = [patient_id, slide_id, site, *parsed.columns, *stated]
    rows = read_rows(table, list(dict.fromkeys(name for name in wanted if name is not None)))
    if rows.empty:
        raise InputError(f"{path}: has a header but no patient; at least one row is wanted")
    if rows[patient_id].isna().any():
        line = table.line_of(rows.index[rows[patient_id].isna()][0])
        raise InputError(f"{path}: line {line} has no {patient_id}; fill it or drop the row")
    check_repeated_header(table, rows, patient_id)
    rows[patient_id] = patient = read_ids(table, rows[patient_id])
    ids = pd.Index(patient.unique(), dtype=object, name="patient_id")
    patients = pd.DataFrame(index=ids)
    if outcome is not None:
        found = _read_outcome(table, rows, parsed)
        patients = _one_a_patient(table, patient, found, parsed).reindex(ids)
    conflicts = _add_sites(patients, rows, patient, site)
    values, unlike = read_covariates(table, rows, patient, stated)
    return Clinical(
        patients=patients,
        covariates=values.reindex(ids),
        slides=_slides(table, rows, patient, slide_id),
        source=str(path),
        names_slides=slide_id is not None,
        site_conflicts=conflicts,
        covariate_conflicts=unlike,
        covariate_levels={column: levels for column, levels in stated.items() if levels is not None},
    )


def _read_outcome(table: TextTable, rows: pd.DataFrame, outcome: Outcome) -> pd.DataFrame:
    """Outcome of each row, once its columns can be what the outcome says they are."""
    if outcome.time is None:
        return read_outcome(table, rows, outcome)
    flags = rows[outcome.event or outcome.censored]
    check_values(table, flags, outcome)
    check_direction(table, flags, outcome)
    read = read_outcome(table, rows, outcome)
    refuse_unit(table.path, outcome, read["time"])
    return read


def _add_sites(patients: pd.DataFrame, rows: pd.DataFrame, patient: pd.Series, site: str | None) -> list[str]:
    """Add the site; without a column the tissue source site, second field of a TCGA barcode, where all ids are such.

    Returns:
        Patients whose rows name several sites.
    """
    if site is None:
        codes = patients.index.to_series().str.extract(_BARCODE, expand=False)
        if codes.notna().all():
            patients["site"] = codes
        return []
    by_patient = rows.groupby(patient, sort=False)[site]
    patients["site"] = by_patient.first().reindex(patients.index)
    several = by_patient.nunique() > 1
    return [str(name) for name in several.index[several]]


def slide_stem(name: str) -> str:
    """Id of a slide from an id or a file name: the last part of a path, without a slide's file ending."""
    name = PurePosixPath(name.replace("\\", "/")).name
    return name[: name.rindex(".")] if name.lower().endswith(SLIDE_SUFFIXES) else name


def _optional(table: TextTable, column: str | None, option: str) -> str | None:
    """A column that may be absent under its default name (the option's), not under a name that the user gave."""
    if column is None or (column == option and column not in table.columns):
        return None
    return require_column(table, column, option)


def _one_a_patient(table: TextTable, patient: pd.Series, rows: pd.DataFrame, outcome: Outcome) -> pd.DataFrame:
    """The known outcome of each patient, refused where rows contradict each other."""
    grouped = rows.groupby(patient, sort=False)
    several = grouped.nunique() > 1
    for column in rows.columns:
        if several[column].any():
            who = several.index[several[column]][0]
            values = rows.loc[patient == who, column].dropna().unique()[:2]
            named = {"time": outcome.time, "event": outcome.event or outcome.censored, "label": outcome.label}[column]
            shown = " and ".join(f"{value:g}" if isinstance(value, float) else repr(value) for value in values)
            days = " days" if column == "time" else " (1 = happened)" if column == "event" else ""
            raise InputError(f"{table.path}: patient {who} has both {shown}{days} in {named!r}; correct one row")
    return grouped.first()


def _slides(table: TextTable, rows: pd.DataFrame, patient: pd.Series, column: str | None) -> dict[str, list[str]]:
    slides: dict[str, list[str]] = {str(name): [] for name in patient.unique()}
    owner: dict[str, str] = {}
    names = read_ids(table, rows[column], patients=False) if column else [None] * len(rows)
    for who, name in zip(patient, names, strict=True):
        if name is None:
            continue
        stem = slide_stem(name)
        if owner.setdefault(stem, who) != who:
            raise InputError(f"{table.path}: slide {stem} is of both {owner[stem]} and {who}; a slide has one patient")
        if stem not in slides[who]:
            slides[who].append(stem)
    return slides
