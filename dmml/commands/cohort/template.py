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
        InputError: There is no such task, the folder is not empty, or its name can't stand in a config.
    """
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise InputError(f"--out {args.out}: already exists; name a new folder")
    # Lightning's command line reads a value of a config once more as YAML wherever a section could stand in its place.
    if unreadable := [mark for mark in (": ", " #") if mark in str(args.out)]:
        raise InputError(f"--out {args.out}: {unreadable[0]!r} in a path has a meaning in configs; name another folder")
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
