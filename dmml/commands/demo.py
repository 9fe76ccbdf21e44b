"""Runs the demo, from simulation to the report of a histology-only model, as commands that a user could type."""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from dmml.atomic_files import write_text
from dmml.errors import InputError

LOGGER = logging.getLogger(__name__)
COHORTS = Path("demo")
CONFIGS = Path("configs")
SHIPPED = Path(__file__).resolve().parents[1] / "configs"
"""The repository's configs, which are part of the package"""
LOG = Path("runs/demo.log")
TEACHER, STUDENT = Path("runs/demo"), Path("runs/demo_student")
REPORT = STUDENT / "report.html"
STOPPED = (130, 143)
"""Exit codes of a step that was ended by Ctrl-C or SIGTERM"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--patients", type=int, default=80, help="patients of the development cohort (default: 80)")
    parser.add_argument("--held-out", type=int, default=50, help="patients of the held-out cohort (default: 50)")


def run(args: argparse.Namespace, dispatch: Callable[[Sequence[str]], int]) -> None:
    """Run the steps that are not done yet, in one process, with one line for each; with `-v`, their output is shown, too.

    Args:
        args: Arguments of the command.
        dispatch: Runs one command line and returns its exit code.

    Raises:
        InputError: A step failed.
        SystemExit: A step was stopped by a signal.
    """
    started = time.monotonic()
    plan = steps(args)
    LOG.parent.mkdir(parents=True, exist_ok=True)
    _write_configs()
    for number, step in enumerate(plan, start=1):
        place = f"{number:>2}/{len(plan)}  {step.title}"
        if step.is_done():
            LOGGER.info("%s: done before", place)
            continue
        LOGGER.info("%s\n       %s", place, step.line)
        begun = time.monotonic()
        exit_code = _logged(step, dispatch)
        if exit_code in STOPPED:  # the step itself has printed how to resume
            raise SystemExit(exit_code)
        if exit_code:
            raise InputError(
                f"the step `{step.line}` failed; correct what its message names and run the demo again, which "
                f"continues there; its output is in {LOG}"
            )
        LOGGER.info("       %s", _duration(time.monotonic() - begun))
    LOGGER.info(
        "\nDone in %s. Look first at:\n"
        "  %-32s how well slides alone rank patients of other hospitals\n"
        "  dmml view %-22s slides with what every tile contributes, in the browser\n"
        "  %-32s what the steps have printed",
        _duration(time.monotonic() - started),
        REPORT,
        STUDENT,
        LOG,
    )


def _write_configs() -> None:
    """Write the demo's configs where the user can read and change them; a checkout has them already."""
    for source in sorted(SHIPPED.glob("demo*.yaml")):
        if not (CONFIGS / source.name).exists():
            CONFIGS.mkdir(exist_ok=True)
            write_text(CONFIGS / source.name, source.read_text(encoding="utf-8"))


def _logged(step: Step, dispatch: Callable[[Sequence[str]], int]) -> int:
    """Run a step, and keep what it prints in the log, unless all details are to be shown. Warnings are shown in any case."""
    if LOGGER.isEnabledFor(logging.DEBUG):
        return dispatch(step.argv)
    with LOG.open("a", encoding="utf-8") as log, redirect_stdout(log):
        print(f"\n> {step.line}")
        return dispatch(step.argv)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


@dataclass(frozen=True)
class Step:
    """A step of the demo.

    Attributes:
        title: What it does, for the user.
        argv: Its command line, without `dmml`.
        is_done: Whether it was done before.
    """

    title: str
    argv: list[str]
    is_done: Callable[[], bool]

    @property
    def line(self) -> str:
        """The command line as a user types it."""
        return "dmml " + " ".join(self.argv)


def steps(args: argparse.Namespace) -> list[Step]:
    """Return the steps in order."""
    size = ["--patients", str(args.patients), "--held-out", str(args.held_out)]
    # `simulate` checks by itself whether it is done.
    plan = [Step("simulate slides and RNA of two cohorts", ["simulate", str(COHORTS), *size], lambda: False)]
    for cohort in ("development", "held_out"):
        folder = COHORTS / cohort
        store, table = folder / "features.zarr", folder / "expression.parquet"
        slides = ["extract", str(folder / "slides"), "--out", str(store)]
        plan.append(Step(f"{cohort}: slides to features", slides, _same_slides(folder / "slides", store)))
        rna = ["cohort", "expression", str(folder / "rna"), "--out", str(table)]
        plan.append(Step(f"{cohort}: RNA files to one table", rna, table.is_file))
    teacher, student = (["fit", "--config", f"{CONFIGS}/{run.name}.yaml", "--resume"] for run in (TEACHER, STUDENT))
    plan.append(Step("train the teacher, which reads slides and RNA", teacher, _finished(TEACHER)))
    plan.append(Step("train the student, which reads slides alone", student, _finished(STUDENT)))
    for name, run_folder in (("teacher", TEACHER), ("student", STUDENT)):
        best = run_folder / "checkpoints" / "best.ckpt"
        report = run_folder / "test" / "held_out" / "report.html"
        argv = ["test", "--ckpt_path", str(best), "--config", f"{CONFIGS}/demo_held_out.yaml"]
        plan.append(Step(f"test the {name} on the held-out cohort", argv, _newer(report, best)))
    tested = [folder / "test" / "held_out" / "metrics.json" for folder in (TEACHER, STUDENT)]
    argv = ["report", str(TEACHER), str(STUDENT), "--out", str(REPORT)]
    plan.append(Step("compare both in a report", argv, _newer(REPORT, *tested)))
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
