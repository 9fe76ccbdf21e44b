"""Reads existing splits: a CSV of folds, a folder of `splits_<k>.csv`, or the formats of CLAM."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from dmml.cohort.clinical.table import Clinical, slide_stem
from dmml.cohort.id_matching import match_ids
from dmml.cohort.splits.split import Fold, Split, split_of_folds
from dmml.cohort.tables.id_columns import read_ids
from dmml.cohort.tables.text_table import TextTable, open_table, read_rows, require_column
from dmml.errors import InputError

_SUBSETS = ("train", "val", "test")


def read_split(path: str | Path, clinical: Clinical) -> Split:
    """Read a published split.

    Args:
        path: A CSV `patient_id,fold`; or a folder of `splits_<k>.csv` (or one such file) with columns `train,val` of ids
            (`val` is the outer test), or CLAM's `train,val,test` of ids or of True and False.
        clinical: Clinical data of the cohort; slide ids in the files are replaced by their patients.

    Raises:
        InputError: A patient is in two folds, or in two subsets of one fold; a file is missing or has none of these
            formats; or a subset of a fold has no patient of the clinical table.
    """
    path = Path(path)
    if path.is_dir():
        files = _split_files(path)
        split = Split({k: _read_fold(file, open_table(file), clinical) for k, file in files.items()}, str(path))
        _check_repeated_tests(split, files)
    else:
        table = open_table(path)
        if "fold" in table.columns:
            split = split_of_folds(_read_fold_numbers(table, clinical), str(path))
        else:
            number = re.search(r"(\d+)(?:_bool)?$", path.stem)
            split = Split({int(number[1]) if number else 0: _read_fold(path, table, clinical)}, str(path))
    return _only_patients(split, clinical)


def _split_files(folder: Path) -> dict[int, Path]:
    """Find {k: splits_<k>.csv}; CLAM's boolean variants are used only if the plain file is missing."""
    files: dict[int, Path] = {}
    for file in sorted(folder.glob("splits_*.csv")):
        number = re.fullmatch(r"splits_(\d+)(_bool)?", file.stem)
        if number and (number[2] is None or int(number[1]) not in files):
            files[int(number[1])] = file
    if not files:
        raise InputError(
            f"{folder}: contains no splits_<k>.csv; name a folder that contains them, or a CSV with the columns patient_id,fold"
        )
    return files


def _read_fold_numbers(table: TextTable, clinical: Clinical) -> pd.Series:
    """Read the number of the fold in which each patient is tested."""
    require_column(table, "patient_id", "split")
    rows = read_rows(table, ["patient_id", "fold"])
    rows["patient_id"] = _patients_of(clinical, read_ids(table, rows["patient_id"]))
    assigned: dict[str, int] = {}
    for index, patient, fold in rows.itertuples():
        if patient is None or fold is None or not re.fullmatch(r"\d+(\.0)?", fold):
            raise InputError(
                f"{table.path}: line {table.line_of(index)} must have a patient_id and the number of a fold, but has {patient!r} and "
                f"{fold!r}"
            )
        number = int(float(fold))
        if assigned.setdefault(patient, number) != number:
            raise InputError(
                f"{table.path}: patient {patient} is in fold {assigned[patient]} and in fold {number}; keep one of the rows"
            )
    if not assigned:
        raise InputError(f"{table.path}: contains no patient; add one row per patient")
    return pd.Series(assigned, dtype=int)


def _read_fold(path: Path, table: TextTable, clinical: Clinical) -> Fold:
    """Read one fold from columns of ids, or from columns of True and False with ids in the first column."""
    subsets = [subset for subset in _SUBSETS if subset in table.columns]
    if "train" not in subsets or len(subsets) < 2:
        raise InputError(
            f"{path}: a split needs the columns train and val (and test), or patient_id and fold; its columns are: "
            f"{', '.join(table.columns)}"
        )
    rows = read_rows(table, None)
    values = {word.lower() for subset in subsets for word in rows[subset].dropna().unique()}
    if values and values <= {"true", "false"}:
        ids = _patients_of(clinical, read_ids(table, rows.iloc[:, 0]))
        listed = {subset: list(ids[rows[subset].str.lower() == "true"]) for subset in subsets}
    else:
        listed = {subset: list(_patients_of(clinical, read_ids(table, rows[subset])).dropna()) for subset in subsets}
    subset_of: dict[str, str] = {}
    for subset in subsets:
        for patient in listed[subset]:
            if subset_of.setdefault(patient, subset) != subset:
                raise InputError(
                    f"{path}: patient {patient} is in both {subset_of[patient]} and {subset}; remove the patient from one of them"
                )
    members = {
        subset: [patient for patient, its_subset in subset_of.items() if its_subset == subset] for subset in subsets
    }
    if "test" in members:
        return Fold(members["train"], members["test"], members.get("val"))
    return Fold(members["train"], members["val"])


def _patients_of(clinical: Clinical, ids: pd.Series) -> pd.Series:
    """Replace patient or slide ids by the patient ids of the clinical table; other ids are unchanged."""
    patients = set(clinical.patients.index)
    patient_of_slide = {slide: patient for patient, slides in clinical.slides.items() for slide in slides}
    stems = {name: slide_stem(name) for name in ids.dropna().unique()}
    matched_patients = match_ids(stems, patients)
    matched_slides = match_ids(stems.values(), patient_of_slide)

    def patient_of(name: str) -> str:
        if name in patients or name in matched_patients:
            return matched_patients.get(name, name)
        stem = stems[name]
        return patient_of_slide.get(matched_slides.get(stem, stem), name)

    return ids.map(patient_of, na_action="ignore")


def _check_repeated_tests(split: Split, files: dict[int, Path]) -> None:
    """Refuse patients who are tested in several folds of a cross-validation.

    Folds with a separate validation set are exempt, since they are repeated random splits.
    """
    test_fold: dict[str, int] = {}
    for k, fold in split.folds.items():
        for patient in fold.test if fold.validation is None else []:
            if test_fold.setdefault(patient, k) != k:
                raise InputError(
                    f"{files[k]}: patient {patient} is a test patient of fold {test_fold[patient]} and of fold {k}; remove the patient "
                    "from one of them"
                )


def _only_patients(split: Split, clinical: Clinical) -> Split:
    """Drop ids that the clinical table lacks, and record them and the unused patients in the split."""
    patients = set(clinical.patients.index)
    mentioned: dict[str, None] = {}

    def keep(ids: Iterable[str] | None) -> list[str] | None:
        if ids is None:
            return None
        ids = list(ids)
        mentioned.update(dict.fromkeys(ids))
        return [patient for patient in ids if patient in patients]

    folds = {k: Fold(keep(f.train) or [], keep(f.test) or [], keep(f.validation)) for k, f in split.folds.items()}
    if not patients & set(mentioned):
        raise InputError(
            f"{split.source}: no patient of {clinical.source} is in this split, which has ids such as "
            f"{next(iter(mentioned), 'none')!r}; use ids such as {clinical.patients.index[0]!r}, as in the clinical table"
        )
    for k, fold in folds.items():
        _check_subsets(split, k, fold, clinical)
    unknown = [patient for patient in mentioned if patient not in patients]
    unused = [patient for patient in clinical.patients.index if patient not in mentioned]
    return Split(folds, split.source, unknown, unused, split.by_site)


def _check_subsets(split: Split, k: int, restricted: Fold, clinical: Clinical) -> None:
    """Refuse a fold that has a subset without patients of the clinical table.

    Args:
        split: Split as read from its source.
        k: Number of the fold.
        restricted: The fold, restricted to patients of the clinical table.
        clinical: Clinical data of the cohort.
    """
    listed_fold = split.folds[k]
    for name, listed, kept in (
        ("training", listed_fold.train, restricted.train),
        ("validation", listed_fold.validation, restricted.validation),
        ("test", listed_fold.test, restricted.test),
    ):
        if listed is None or kept:
            continue
        if listed:
            raise InputError(
                f"{split.source}: fold {k} has no {name} patient of {clinical.source}, but ids such as {listed[0]!r}; use ids "
                f"such as {clinical.patients.index[0]!r}, as in the clinical table"
            )
        alternative = ", or leave the column out" if name == "validation" else ""
        raise InputError(f"{split.source}: fold {k} has no {name} patient; fill its column{alternative}")
