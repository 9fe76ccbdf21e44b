"""Runs the demo, from simulation to the report of a histology-only model, as commands that a user could type."""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dmml.errors import InputError

LOGGER = logging.getLogger(__name__)
COHORTS = Path("demo")
TEACHER, STUDENT = Path("runs/demo"), Path("runs/demo_student")
REPORT = STUDENT / "report.html"
STOPPED = (130, 143)
"""Exit codes of a step that was ended by Ctrl-C or SIGTERM"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--patients", type=int, default=80, help="patients of the development cohort (default: 80)")
    parser.add_argument("--held-out", type=int, default=50, help="patients of the held-out cohort (default: 50)")


def run(args: argparse.Namespace, dispatch: Callable[[Sequence[str]], int]) -> None:
    """Run the steps that are not done yet, in one process.

    Args:
        args: Arguments of the command.
        dispatch: Runs one command line and returns its exit code.

    Raises:
        InputError: A step failed.
        SystemExit: A step was stopped by a signal.
    """
    started = time.monotonic()
    for is_done, argv in steps(args):
        line = "dmml " + " ".join(argv)
        if is_done():
            LOGGER.info("✓ %s   (done before)", line)
            continue
        LOGGER.info("\n▶ %s", line)
        exit_code = dispatch(argv)
        if exit_code in STOPPED:  # the step itself has printed how to resume
            raise SystemExit(exit_code)
        if exit_code:
            raise InputError(
                f"the step `{line}` failed; correct what its message names and run the demo again, which continues there"
            )
    minutes = (time.monotonic() - started) / 60
    LOGGER.info(
        "\nThe report of a model that sees slides alone, on a cohort it was never trained on: %s   (%.1f min)",
        REPORT,
        minutes,
    )


def steps(args: argparse.Namespace) -> list[tuple[Callable[[], bool], list[str]]]:
    """Return, for each step, a function that says whether it is done, and its command line."""
    plan: list[tuple[Callable[[], bool], list[str]]] = []
    size = ["--patients", str(args.patients), "--held-out", str(args.held_out)]
    plan.append((lambda: False, ["simulate", str(COHORTS), *size]))  # checks by itself whether it is done
    for cohort in ("development", "held_out"):
        folder = COHORTS / cohort
        store, table = folder / "features.zarr", folder / "expression.parquet"
        plan.append((_same_slides(folder / "slides", store), ["extract", str(folder / "slides"), "--out", str(store)]))
        plan.append((table.is_file, ["cohort", "expression", str(folder / "rna"), "--out", str(table)]))
    plan.append((_finished(TEACHER), ["fit", "--config", "configs/demo.yaml", "--resume"]))
    plan.append((_finished(STUDENT), ["fit", "--config", "configs/demo_student.yaml", "--resume"]))
    for run_folder in (TEACHER, STUDENT):
        best = run_folder / "checkpoints" / "best.ckpt"
        report = run_folder / "test" / "held_out" / "report.html"
        argv = ["test", "--ckpt_path", str(best), "--config", "configs/demo_held_out.yaml"]
        plan.append((_newer(report, best), argv))
    tested = [folder / "test" / "held_out" / "metrics.json" for folder in (TEACHER, STUDENT)]
    plan.append((_newer(REPORT, *tested), ["report", str(TEACHER), str(STUDENT), "--out", str(REPORT)]))
    return plan


def _same_slides(slides: Path, store: Path) -> Callable[[], bool]:
    """Return a function that checks whether every slide of a folder is complete in the store."""

    def done() -> bool:
        groups = [store / "slides" / file.stem / "zarr.json" for file in slides.glob("*.tif")]
        return bool(groups) and all(group.is_file() and '"complete": true' in group.read_text() for group in groups)

    return done


def _finished(folder: Path) -> Callable[[], bool]:
    def done() -> bool:
        provenance = folder / "provenance.json"
        return provenance.is_file() and bool(json.loads(provenance.read_text(encoding="utf-8")).get("finished"))

    return done


def _newer(file: Path, *sources: Path) -> Callable[[], bool]:
    """Return a function that checks whether a file exists and is no older than the files it was made from."""
    return lambda: file.is_file() and all(s.is_file() and s.stat().st_mtime <= file.stat().st_mtime for s in sources)
