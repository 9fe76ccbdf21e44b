"""Write one self-contained HTML file about one or several runs, about a cross-validation, or about two of them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dmml.errors import InputError
from dmml.writable import check_writable

if TYPE_CHECKING:
    from dmml.evaluation.plots.user_plots import UserPlot


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `dmml report`."""
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        type=Path,
        help="run folder (runs/demo: every cohort it was tested on) or one test folder (runs/demo/test/held_out); "
        "runs tested on the same cohort are compared patient by patient; or the folder of one cross-validation, or those "
        "of two on the same folds, whose models are compared patient by patient",
    )
    parser.add_argument(
        "--pair",
        action="append",
        default=[],
        metavar="FIRST:SECOND",
        help="of two cross-validations, compare this model of the first with that of the second, besides all models of "
        "the same name; may be given several times",
    )
    parser.add_argument(
        "--plot",
        action="append",
        default=[],
        metavar="MODULE:FUNCTION",
        help="add a plot of your own, e.g. my_plots:risk_by_age for the function risk_by_age in my_plots.py in the "
        "working directory; may be given several times",
    )
    parser.add_argument("--out", type=Path, help="the file to write (default: report.html in the last RUN)")


def run(args: argparse.Namespace) -> None:
    """Check the folders, write the page and print its path."""
    from dmml.evaluation.crossval.results import is_crossval
    from dmml.evaluation.result_folders import find_tests

    if args.out is not None and args.out.is_dir():
        raise InputError(f"--out {args.out} is a folder; name a file, e.g. {args.out / 'report.html'}")
    check_writable((args.out or args.runs[-1] / "report.html").parent, "name another file with --out")
    crossvals = [path for path in args.runs if is_crossval(path)]
    if len(crossvals) == len(args.runs) == 2:
        _compare_crossvals(args)
        return
    if args.pair:
        raise InputError("--pair compares models of two cross-validations; name the folders of two of them")
    if crossvals:
        if len(args.runs) > 1:
            raise InputError(
                f"{crossvals[0]} is a cross-validation, which has a report of its own; give it alone, or with one other "
                "cross-validation"
            )
        _report_crossval(crossvals[0], args)
        return
    tests = find_tests(args.runs)
    user_plots = _user_plots(args.plot)
    from dmml.evaluation.report.build import write_report

    path = write_report(args.runs, args.out, user_plots)
    print(f"{path} ({len(tests)} test{'s' if len(tests) != 1 else ''}, {_size(path)})")


def _report_crossval(folder: Path, args: argparse.Namespace) -> None:
    from dmml.evaluation.crossval.results import read_crossval

    read_crossval(folder)  # says what is wrong with the folder before anything heavy is imported
    user_plots = _user_plots(args.plot)
    from dmml.evaluation.crossval.report import write_crossval_report

    path = write_crossval_report(folder, args.out, user_plots)
    print(f"{path} (cross-validation, {_size(path)})")


def _compare_crossvals(args: argparse.Namespace) -> None:
    from dmml.evaluation.crossval.results import read_crossval

    if args.plot:
        raise InputError("--plot adds a plot to the report of a single cross-validation; leave it out to compare two")
    for folder in args.runs:
        read_crossval(folder)
    pairs = [_model_names(text) for text in args.pair]
    from dmml.evaluation.crossval.comparison_report import write_comparison

    first, second = args.runs
    path, warning = write_comparison(first, second, pairs, args.out)
    if warning:
        print(warning)
    print(f"{path} (two cross-validations, {_size(path)})")


def _size(path: Path) -> str:
    """Size of a file as text; a comparison without plots takes only some kB."""
    size = path.stat().st_size
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB"


def _model_names(text: str) -> tuple[str, str]:
    first, _, second = text.partition(":")
    if not first or not second:
        raise InputError(f"--pair {text}: name two models as FIRST:SECOND, e.g. teacher:student")
    return first, second


def _user_plots(names: list[str]) -> list[UserPlot]:
    if not names:
        return []
    from dmml.evaluation.plots.user_plots import load_user_plot

    return [load_user_plot(name) for name in names]
