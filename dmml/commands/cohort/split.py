"""Divide a cohort's patients into folds, stratified by outcome, with each site kept in one fold on request.

Without an outcome, only the sizes of the folds are balanced. With --from, published folds are read instead.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dmml.atomic_files import write_text
from dmml.writable import check_writable

if TYPE_CHECKING:
    import pandas as pd

    from dmml.cohort.clinical.table import Clinical


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--clinical",
        type=Path,
        required=True,
        metavar="C.csv",
        help="clinical table with one row per slide or per patient",
    )
    parser.add_argument("--out", type=Path, metavar="S.csv", help="file to write the folds to, as patient_id,fold")
    parser.add_argument(
        "--from",
        dest="published",
        type=Path,
        metavar="PATH",
        help="published folds, which are summarised, and with --out written as one file",
    )
    parser.add_argument("--folds", type=int, default=5, help="number of folds (default 5)")
    parser.add_argument(
        "--stratify", action=argparse.BooleanOptionalAction, default=True, help="balance the outcomes over the folds"
    )
    parser.add_argument(
        "--site", metavar="COLUMN", help="column of the sites; all patients of a site are kept in one fold"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the shuffling (default 0)")
    parser.add_argument(
        "--patient-id", default="patient_id", metavar="COLUMN", help="column of the patient ids (default patient_id)"
    )
    parser.add_argument("--time", metavar="COLUMN", help="column of the time to event or censoring")
    parser.add_argument("--event", metavar="COLUMN", help="column that is 1 where the event happened")
    parser.add_argument("--censored", metavar="COLUMN", help="column that is 1 where the patient was censored")
    parser.add_argument(
        "--checked",
        action="store_true",
        help="1 means what the option says, even if the column's name or a vital status suggests otherwise",
    )
    parser.add_argument("--unit", help="unit of the time: days, months or years (default days)")
    parser.add_argument("--label", metavar="COLUMN", help="column of the patient's class")
    parser.add_argument("--value", metavar="COLUMN", help="column of a continuous value")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def run(args: argparse.Namespace) -> None:
    """Make the folds, write them and print a summary."""
    from dmml.cohort.clinical.table import read_clinical
    from dmml.cohort.splits.make_folds import make_folds, site_overlap
    from dmml.errors import InputError

    if args.out is None and args.published is None:
        raise InputError(
            "--out is missing: name the file to write the folds to, or add --from PATH to summarise existing folds"
        )
    if args.out is not None and args.out.exists() and not args.overwrite:
        raise InputError(f"{args.out}: already exists; add --overwrite, or name another file")
    if args.out is not None:
        check_writable(args.out.parent, "name another file with --out")
    options = {key: getattr(args, key) for key in ("time", "event", "censored", "unit", "label", "value")}
    outcome: dict[str, object] = {key: value for key, value in options.items() if value is not None}
    if outcome and args.checked:
        outcome["checked"] = True
    clinical = read_clinical(
        args.clinical, patient_id=args.patient_id, site=args.site or "site", outcome=outcome or None
    )
    if args.published is not None:
        folds = _published(args.published, clinical)
    else:
        folds = make_folds(clinical, args.folds, args.stratify, site=args.site is not None, seed=args.seed)
    if args.out is not None:
        write_text(args.out, folds.to_csv())
    how = f"as in {args.published}" if args.published is not None else _describe_folds(args, clinical.kind)
    print(f"{args.out or args.published}: {len(folds)} patients in {folds.nunique()} folds, {how}")
    if clinical.kind is not None:
        print(f"patients without outcome: {int((~clinical.observed).sum())}")
    print(site_overlap(clinical, folds).to_string())


def _published(path: Path, clinical: Clinical) -> pd.Series:
    """Return the fold in which each patient is tested.

    Raises:
        InputError: The folds test a patient twice, or do not test every patient that they train on, so they are not a
            cross-validation.
    """
    import pandas as pd

    from dmml.cohort.splits.read_splits import read_split
    from dmml.errors import InputError

    split = read_split(path, clinical)
    tests = [(patient, k) for k, fold in sorted(split.folds.items()) for patient in fold.test]
    folds = pd.Series(dict(tests), dtype=int)
    trained = {patient for fold in split.folds.values() for patient in [*fold.train, *(fold.validation or [])]}
    if len(folds) < len(tests) or trained - {*folds.index}:
        raise InputError(
            f"{path}: some patients are tested in several folds or in none, so these folds cannot be written as one file; "
            "name them as they are in a config (split: …)"
        )
    if split.unknown:
        print(f"{len(split.unknown)} ids in the folds are not in {clinical.source} ({split.unknown[0]}, …)")
    if split.unused:
        print(f"{len(split.unused)} patients of {clinical.source} are in no fold ({split.unused[0]}, …)")
    folds = folds.reindex([patient for patient in clinical.patients.index if patient in folds.index])
    return folds.rename_axis("patient_id").rename("fold")


def _describe_folds(args: argparse.Namespace, kind: str | None) -> str:
    by = {"survival": "event and time", "classification": "label", "regression": "quartile of the value", None: ""}[
        kind
    ]
    stratification = f"stratified by {by}" if args.stratify and kind else "not stratified"
    sites = f"each site in one fold ({args.site})" if args.site else "sites mixed"
    return f"{stratification}, {sites}, seed {args.seed}"
