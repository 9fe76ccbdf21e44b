"""Nested cross-validation: fits teacher, student and baselines fold by fold, and summarises all folds."""

from __future__ import annotations

from dmml.atomic_files import write_json
from dmml.experiment.crossval.plan import CrossvalPlan
from dmml.experiment.crossval.summary import summarise
from dmml.experiment.crossval.table import format_tables
from dmml.experiment.run_folder import now, versions


def fit(plan: CrossvalPlan, only_fold: int | None = None, jobs: int = 1) -> None:
    """Fit what is not finished.

    Args:
        plan: CrossvalPlan of the cross-validation, whose folder is claimed.
        only_fold: Fit this fold alone.
        jobs: Number of folds that are fitted in parallel, each in a process of its own.
    """
    if not plan.missing():
        return
    from dmml.experiment.crossval.parallel import fit_folds_in_parallel  # imports Lightning, which takes seconds
    from dmml.experiment.crossval.run import FoldRunner

    runner = FoldRunner(plan)
    runner.check()
    if jobs > 1 and only_fold is None:
        fit_folds_in_parallel(plan, jobs)
    else:
        runner.run(only_fold)


def collect(plan: CrossvalPlan, command: str) -> str:
    """Evaluate the finished models, write the results, and return tables of them as text.

    The results are `crossval.json`, `oof_predictions.csv` and `provenance.json`.

    Args:
        plan: CrossvalPlan of the cross-validation.
        command: The command that reproduces it.
    """
    text = format_tables(summarise(plan))
    record = {"command": command, "collected": now(), "versions": versions()}
    write_json(plan.out / "provenance.json", record)
    return f"{text}\n\n{plan.out / 'crossval.json'}"
