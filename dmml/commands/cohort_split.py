"""Divide a cohort's patients into folds, stratified by outcome, with each site kept in one fold on request.

Without an outcome, only the sizes of the folds are balanced. With --from, published folds are read instead.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dmml.writable import check_writable

if TYPE_CHECKING:
    import pandas as pd

    from dmml.cohort.clinical.table import Clinical


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--clinical", type=Path, required=True, metavar="C.csv", help="clinical table, a row a slide or a patient"
    )
    parser.add_argument("--out", type=Path, metavar="S.csv", help="file to write: patient_id,fold")
    parser.add_argument(
        "--from",
        dest="published",
        type=Path,
        metavar="PATH",
        help="published folds to look at, or to write as one file",
    )
    parser.add_argument("--folds", type=int, default=5, help="how many (default 5)")
    parser.add_argument(
        "--stratify", action=argparse.BooleanOptionalAction, default=True, help="balance outcomes over folds"
    )
    parser.add_argument("--site", metavar="COLUMN", help="keep the patients of a site in one fold")
    parser.add_argument("--seed", type=int, default=0, help="of the shuffling (default 0)")
    parser.add_argument(
        "--patient-id", default="patient_id", metavar="COLUMN", help="column of the patient (default patient_id)"
    )
    parser.add_argument("--time", metavar="COLUMN", help="time to event or censoring")
    parser.add_argument("--event", metavar="COLUMN", help="1 = happened")
    parser.add_argument("--censored", metavar="COLUMN", help="1 = censored")
    parser.add_argument(
        "--checked", action="store_true", help="1 means what the option says, whatever the column's name suggests"
    )
    parser.add_argument("--unit", help="days, months or years (default days)")
    parser.add_argument("--label", metavar="COLUMN", help="class of the patient")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")


def run(args: argparse.Namespace) -> None:
    """Make the folds, write them and print a summary."""
    from dmml.cohort.clinical.table import read_clinical
    from dmml.cohort.splits.make_folds import make_folds, site_overlap
    from dmml.errors import InputError

    if args.out is None and args.published is None:
        raise InputError("--out: names no file to write the folds to; with --from PATH folds are only looked at")
    if args.out is not None and args.out.exists() and not args.overwrite:
        raise InputError(f"{args.out}: is there already; add --overwrite, or name another file")
    if args.out is not None:
        check_writable(args.out.parent, "name another file with --out")
    named = {key: getattr(args, key) for key in ("time", "event", "censored", "unit", "label")}
    outcome = {key: column for key, column in named.items() if column is not None}
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
        _write(folds, args.out)
    how = f"as {args.published} has them" if args.published is not None else _how(args, clinical.kind)
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
    tested = [(who, k) for k, fold in sorted(split.folds.items()) for who in fold.test]
    folds = pd.Series(dict(tested), dtype=int)
    trained = {who for fold in split.folds.values() for who in [*fold.train, *(fold.validation or [])]}
    if len(folds) < len(tested) or trained - {*folds.index}:
        raise InputError(
            f"{path}: does not test each of its patients once, so that a patient has no one fold; dmml takes such folds as "
            "they are (split: in a config), not as one file"
        )
    for what, ids in {
        "of its ids are of no patient here": split.unknown,
        "patients are in no fold": split.unused,
    }.items():
        if ids:
            print(f"{len(ids)} {what} ({ids[0]}, …)")
    folds = folds.reindex([who for who in clinical.patients.index if who in folds.index])
    return folds.rename_axis("patient_id").rename("fold")


def _write(folds: pd.Series, out: Path) -> None:
    import os

    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    temporary.write_text(folds.to_csv(), encoding="utf-8")
    os.replace(temporary, out)


def _how(args: argparse.Namespace, kind: str | None) -> str:
    by = {"survival": "event and time", "classification": "label", None: ""}[kind]
    parts = [f"stratified by {by}" if args.stratify and kind else "not stratified"]
    parts.append(f"sites whole ({args.site})" if args.site else "sites mixed")
    return ", ".join([*parts, f"seed {args.seed}"])
