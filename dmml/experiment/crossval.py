"""Nested cross-validation: teacher, then student, then baselines, fold by fold, and what follows from all of them."""

from __future__ import annotations

from dmml.experiment.crossval_plan import Plan
from dmml.experiment.crossval_summary import summarise
from dmml.experiment.crossval_table import tables
from dmml.experiment.run_folder import now, versions, write_json


def fit(plan: Plan, only_fold: int | None = None, jobs: int = 1) -> None:
    """Fit what is not finished.

    Args:
        plan: Of the cross-validation; its folder is claimed.
        only_fold: Fit this fold alone.
        jobs: Folds side by side, each in a process of its own.
    """
    if not plan.missing():
        return
    from dmml.experiment.crossval_run import Runner, run_side_by_side  # brings Lightning in, which takes seconds

    runner = Runner(plan)
    runner.check()
    if jobs > 1 and only_fold is None:
        run_side_by_side(plan, jobs)
    else:
        runner.run(only_fold)


def collect(plan: Plan, command: str) -> str:
    """Judge what is finished, write `crossval.json`, `oof_predictions.csv` and `provenance.json`, and say it in tables.

    Args:
        plan: Of the cross-validation.
        command: That makes it again.
    """
    told = tables(summarise(plan))
    record = {"command": command, "collected": now(), "versions": versions()}
    write_json(plan.out / "provenance.json", record)
    return f"{told}\n\n{plan.out / 'crossval.json'}"
