"""Begin a cohort: example tables, a split, and configs that run, to be replaced by your own piece by piece."""

from __future__ import annotations

import argparse
from pathlib import Path

from dmml.errors import InputError
from dmml.writable import check_writable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--task", required=True, metavar="TASK", help="survival, classification or regression")
    parser.add_argument("--out", type=Path, required=True, metavar="D", help="new folder for the tables and configs")


def run(args: argparse.Namespace) -> None:
    """Write the folder, and print what to do with it.

    Raises:
        InputError: There is no such task, or the folder is not empty.
    """
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise InputError(f"--out {args.out}: already exists; name a new folder")
    check_writable(args.out.parent, "name another folder with --out")
    from dmml.simulate.cohort_template import TASKS, next_commands, write_template

    if args.task not in TASKS:
        raise InputError(f"--task {args.task}: give one of {', '.join(TASKS)}")
    write_template(args.out, args.task)
    print(
        f"{args.out}: clinical.csv, expression.parquet, features.zarr and split.csv of made-up patients, teacher.yaml, "
        "student.yaml\nThis runs now, and with your own tables later:"
    )
    print("\n".join(f"  {command}" for command in next_commands(args.out)))
