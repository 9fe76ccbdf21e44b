"""Reads existing splits (a CSV of folds, folders of `splits_<k>.csv`, CLAM's formats) and carves validation sets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from dmml.cohort.clinical.table import Clinical, slide_stem
from dmml.cohort.id_matching import match_ids
from dmml.cohort.splits.make_folds import make_folds
from dmml.cohort.tables.id_columns import read_ids
from dmml.cohort.tables.text_table import TextTable, open_table, read_rows, require_column
from dmml.errors import InputError

_PARTS = ("train", "val", "test")


@dataclass
class Fold:
    """Patients of one fold; no patient is in two parts."""

    train: list[str]
    test: list[str]
    """Outer test patients."""
    validation: list[str] | None = None
    """Inner validation patients if the source names them; otherwise they are carved from `train`."""


@dataclass
class Split:
    """Folds of a cohort, by number."""

    folds: dict[int, Fold]
    source: str
    unknown: list[str] = field(default_factory=list)
    """Ids of the source that are not patients (or slides) of the clinical table."""
    unused: list[str] = field(default_factory=list)
    """Patients of the clinical table that are in no fold."""
    by_site: bool = False
    """Whether sites are kept whole; if so, the inner validation keeps them whole, too."""

    def fold(self, k: int) -> tuple[list[str], list[str]]:
        """Training patients (including validation patients that the source names) and test patients of fold k.

        Raises:
            InputError: The split has no fold k.
        """
        chosen = self[k]
        return [*chosen.train, *(chosen.validation or [])], chosen.test

    def __getitem__(self, k: int) -> Fold:
        """Get fold k, or raise an InputError if the split has no such fold."""
        if k not in self.folds:
            raise InputError(f"fold: {k}; {self.source} has the folds {', '.join(map(str, sorted(self.folds)))}")
        return self.folds[k]


def split_of_folds(folds: pd.Series, source: str, by_site: bool = False) -> Split:
    """Make a split in which each fold in turn is the outer test.

    Args:
        folds: Fold of each patient id, as from `make_folds`.
        source: Name of the split in messages.
        by_site: Whether sites are kept whole.

    Raises:
        InputError: There is only one fold.
    """
    numbers = sorted(int(k) for k in folds.unique())
    if len(numbers) < 2:
        raise InputError(f"{source}: only one fold ({numbers[0]}); at least two are needed, one to test on")
    parts = {k: Fold(list(folds.index[folds != k]), list(folds.index[folds == k])) for k in numbers}
    return Split(parts, source, by_site=by_site)


def read_split(path: str | Path, clinical: Clinical) -> Split:
    """Read a published split.

    Args:
        path: A CSV `patient_id,fold`; or a folder of `splits_<k>.csv` (or one such file) with columns `train,val` of ids
            (`val` is the outer test), or CLAM's `train,val,test` of ids or of True and False.
        clinical: Clinical data of the cohort; slide ids in the files are replaced by their patients.

    Raises:
        InputError: A patient is in two folds, or in two parts of one fold; a file is missing or has no known format; or
            a part of a fold has no patient of the clinical table.
    """
    path = Path(path)
    if path.is_dir():
        files = _split_files(path)
        split = Split({k: _read_parts(file, open_table(file), clinical) for k, file in files.items()}, str(path))
        _refuse_repeated_tests(split, files)
    else:
        table = open_table(path)
        if "fold" in table.columns:
            split = split_of_folds(_read_folds(table, clinical), str(path))
        else:
            number = re.search(r"(\d+)(?:_bool)?$", path.stem)
            split = Split({int(number[1]) if number else 0: _read_parts(path, table, clinical)}, str(path))
    return _known_only(split, clinical)


def carve_validation(
    clinical: Clinical, train: Sequence[str], folds: int = 5, seed: int = 0, site: bool = False
) -> tuple[list[str], list[str]]:
    """Carve an inner validation set, one of several stratified folds, from the training patients.

    Args:
        clinical: Clinical data of the cohort.
        train: Training patients of the outer fold.
        folds: Number of folds; the validation set gets 1/folds of the patients.
        seed: Seed of the shuffling.
        site: Keep sites whole if there are enough of them.

    Returns:
        (training, validation) patient ids.

    Raises:
        InputError: There are fewer training patients than folds.
    """
    if len(train) < folds:
        raise InputError(
            f"{clinical.source}: {len(train)} training patients are too few to carve a validation set from"
        )
    assigned = deal_training_patients(clinical, train, folds, seed, site)
    return list(assigned.index[assigned != 0]), list(assigned.index[assigned == 0])


def deal_training_patients(
    clinical: Clinical, train: Sequence[str], folds: int, seed: int = 0, site: bool = False
) -> pd.Series:
    """Assign the training patients of an outer fold to stratified inner folds.

    Args:
        clinical: Clinical data of the cohort.
        train: Training patients of the outer fold, at least as many as folds.
        folds: Number of inner folds.
        seed: Seed of the shuffling.
        site: Keep sites whole if there are enough of them.

    Returns:
        The same as `make_folds`.
    """
    if site:
        known = clinical.patients["site"].loc[list(train)] if "site" in clinical.patients else pd.Series(dtype=object)
        site = known.nunique() >= folds and not set(clinical.site_conflicts) & set(train)
    return make_folds(clinical, folds, stratify=True, site=site, seed=seed, patients=train)


def _split_files(folder: Path) -> dict[int, Path]:
    """Find {k: splits_<k>.csv}; CLAM's boolean variants are used only if the plain file is missing."""
    files: dict[int, Path] = {}
    for file in sorted(folder.glob("splits_*.csv")):
        number = re.fullmatch(r"splits_(\d+)(_bool)?", file.stem)
        if number and (number[2] is None or int(number[1]) not in files):
            files[int(number[1])] = file
    if not files:
        raise InputError(
            f"{folder}: no splits_<k>.csv in this folder; name a folder that has them, or a CSV patient_id,fold"
        )
    return files


def _read_folds(table: TextTable, clinical: Clinical) -> pd.Series:
    require_column(table, "patient_id", "split")
    rows = read_rows(table, ["patient_id", "fold"])
    rows["patient_id"] = _patients_of(clinical, read_ids(table, rows["patient_id"]))
    assigned: dict[str, int] = {}
    for index, who, fold in rows.itertuples():
        if who is None or fold is None or not re.fullmatch(r"\d+(\.0)?", fold):
            raise InputError(
                f"{table.path}: line {table.line_of(index)}: a patient_id and a fold number are wanted, not {who!r}, {fold!r}"
            )
        number = int(float(fold))
        if assigned.setdefault(who, number) != number:
            raise InputError(
                f"{table.path}: patient {who} is in fold {assigned[who]} and in fold {number}; leave it in one"
            )
    if not assigned:
        raise InputError(f"{table.path}: holds no patient; at least one row is wanted")
    return pd.Series(assigned, dtype=int)


def _read_parts(path: Path, table: TextTable, clinical: Clinical) -> Fold:
    """Read one fold from columns of ids, or from columns of True and False with ids in the first column."""
    parts = [part for part in _PARTS if part in table.columns]
    if "train" not in parts or len(parts) < 2:
        raise InputError(
            f"{path}: columns train and val (and test), or patient_id and fold, are wanted; there are: {', '.join(table.columns)}"
        )
    rows = read_rows(table, None)
    values = {word.lower() for part in parts for word in rows[part].dropna().unique()}
    if values and values <= {"true", "false"}:
        ids = _patients_of(clinical, read_ids(table, rows.iloc[:, 0]))
        members = {part: list(ids[rows[part].str.lower() == "true"]) for part in parts}
    else:
        members = {part: list(_patients_of(clinical, read_ids(table, rows[part])).dropna()) for part in parts}
    part_of: dict[str, str] = {}
    for part in parts:
        for who in members[part]:
            if part_of.setdefault(who, part) != part:
                raise InputError(f"{path}: patient {who} is in both {part_of[who]} and {part}; leave it in one")
    by_part = {part: [who for who, own in part_of.items() if own == part] for part in parts}
    if "test" in by_part:
        return Fold(by_part["train"], by_part["test"], by_part.get("val"))
    return Fold(by_part["train"], by_part["val"])


def _patients_of(clinical: Clinical, ids: pd.Series) -> pd.Series:
    """Replace patient or slide ids by the patient ids of the clinical table; other ids are unchanged."""
    patients = set(clinical.patients.index)
    owner = {slide: patient for patient, slides in clinical.slides.items() for slide in slides}
    names = {name: slide_stem(name) for name in ids.dropna().unique()}
    same = match_ids(names, patients)
    same_slide = match_ids(names.values(), owner)

    def patient_of(name: str) -> str:
        if name in patients or name in same:
            return same.get(name, name)
        stem = names[name]
        return owner.get(same_slide.get(stem, stem), name)

    return ids.map(patient_of, na_action="ignore")


def _refuse_repeated_tests(split: Split, files: dict[int, Path]) -> None:
    """Refuse patients who are tested in several folds of a cross-validation.

    Folds with a separate validation set are exempt, since they are repeated random splits.
    """
    tested: dict[str, int] = {}
    for k, fold in split.folds.items():
        for who in fold.test if fold.validation is None else []:
            if tested.setdefault(who, k) != k:
                raise InputError(
                    f"{files[k]}: patient {who} is in the test part of fold {tested[who]} and of fold {k}; leave it in one"
                )


def _known_only(split: Split, clinical: Clinical) -> Split:
    """Drop ids that the clinical table lacks, and record them and the unused patients in the split."""
    known = set(clinical.patients.index)
    mentioned: dict[str, None] = {}

    def keep(ids: Iterable[str] | None) -> list[str] | None:
        if ids is None:
            return None
        ids = list(ids)
        mentioned.update(dict.fromkeys(ids))
        return [who for who in ids if who in known]

    folds = {k: Fold(keep(f.train) or [], keep(f.test) or [], keep(f.validation)) for k, f in split.folds.items()}
    if not known & set(mentioned):
        first, ours = next(iter(mentioned), "none"), next(iter(clinical.patients.index))
        raise InputError(
            f"{split.source}: no patient of {clinical.source} is in this split ({first!r} there, {ours!r} here); use the ids of the clinical table"
        )
    for k, fold in folds.items():
        _check_parts(split, k, fold, clinical)
    unknown = [who for who in mentioned if who not in known]
    unused = [who for who in clinical.patients.index if who not in mentioned]
    return Split(folds, split.source, unknown, unused, split.by_site)


def _check_parts(split: Split, k: int, known: Fold, clinical: Clinical) -> None:
    """Refuse a fold that has a part without patients of the clinical table.

    Args:
        split: Split as read from its source.
        k: Number of the fold.
        known: The fold, restricted to patients of the clinical table.
        clinical: Clinical data of the cohort.
    """
    for part, name in (("train", "training"), ("validation", "validation"), ("test", "test")):
        listed = getattr(split.folds[k], part)
        if listed is None or getattr(known, part):
            continue
        if listed:
            why = f"({listed[0]!r} there, {clinical.patients.index[0]!r} here); use the ids of the clinical table"
        else:
            why = "at all; fill its column" + (", or leave the column out" if part == "validation" else "")
        raise InputError(f"{split.source}: fold {k} has no {name} patient of {clinical.source} {why}")
