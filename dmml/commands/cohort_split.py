"""Divide a cohort's patients into folds, stratified by outcome and, where asked, with whole sites.

Without an outcome, folds are balanced in size alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--clinical", type=Path, required=True, metavar="C.csv", help="clinical table, a row a slide or a patient"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="S.csv", help="file to write: patient_id,fold")
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
    parser.add_argument("--unit", help="days, months or years (default days)")
    parser.add_argument("--label", metavar="COLUMN", help="class of the patient")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")


def run(args: argparse.Namespace) -> None:
    """Make the folds, write them and print how they came out."""
    import os

    from dmml.cohort.clinical import read_clinical
    from dmml.cohort.folds import make_folds, site_overlap
    from dmml.errors import InputError

    if args.out.exists() and not args.overwrite:
        raise InputError(f"{args.out}: is there already; add --overwrite, or name another file")
    named = {key: getattr(args, key) for key in ("time", "event", "censored", "unit", "label")}
    outcome = {key: column for key, column in named.items() if column is not None}
    clinical = read_clinical(
        args.clinical, patient_id=args.patient_id, site=args.site or "site", outcome=outcome or None
    )
    folds = make_folds(clinical, args.folds, args.stratify, site=args.site is not None, seed=args.seed)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    temporary = args.out.with_name(f".{args.out.name}.{os.getpid()}")
    temporary.write_text(folds.to_csv(), encoding="utf-8")
    os.replace(temporary, args.out)
    print(f"{args.out}: {len(folds)} patients in {args.folds} folds, {_how(args, clinical.kind)}")
    if clinical.kind is not None:
        print(f"patients without outcome: {int((~clinical.observed).sum())}")
    print(site_overlap(clinical, folds).to_string())


def _how(args: argparse.Namespace, kind: str | None) -> str:
    by = {"survival": "event and time", "classification": "label", None: ""}[kind]
    parts = [f"stratified by {by}" if args.stratify and kind else "not stratified"]
    parts.append(f"sites whole ({args.site})" if args.site else "sites mixed")
    return ", ".join([*parts, f"seed {args.seed}"])
