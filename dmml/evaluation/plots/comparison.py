"""Plots that compare the tests of a report: models side by side, and paired differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dmml.evaluation.comparison import Pair
from dmml.evaluation.evaluation_result import Evaluation
from dmml.evaluation.plots.forest import BEST_POSSIBLE, differences_forest, models_forest
from dmml.evaluation.plots.plot import Plot, file_name
from dmml.evaluation.report.tables import defined


def models_plot(tests: list[Evaluation]) -> Plot | None:
    """Plot the primary metric of a cohort's models, and the best possible one if known; None for fewer than two."""
    rows = [(test.label, test.metrics[test.primary]) for test in tests]
    oracle = next((test.metrics["c_index_oracle"] for test in tests if "c_index_oracle" in test.metrics), None)
    if oracle:
        rows.append((BEST_POSSIBLE, oracle))
    plot = models_forest(rows, f"Models on {tests[0].cohort}", tests[0].endpoint.axis_name, tests[0].endpoint.chance)
    return replace(plot, name=file_name(f"models_{tests[0].cohort}")) if plot else None


def tests_plot(groups: list[list[Evaluation]]) -> Plot | None:
    """Plot the primary metric of all tests of a report; None for fewer than two.

    If the report has tests of several endpoints, only those of the first one's are drawn.
    """
    if len(groups) == 1:
        return models_plot(groups[0])
    tests = [test for group in groups for test in group if test.primary == groups[0][0].primary]
    runs = {test.run for test in tests}
    rows = [(_row_name(test, len(runs) == 1), test.metrics[test.primary]) for test in tests]
    title = f"{next(iter(runs))} on {len(groups)} cohorts" if len(runs) == 1 else "Models and cohorts"
    return models_forest(rows, title, tests[0].endpoint.axis_name, tests[0].endpoint.chance)


def _row_name(test: Evaluation, one_run: bool) -> str:
    """Row name of a test on several cohorts; with a single run, the cohort and the mark of training patients."""
    return test.label.replace(test.run, test.cohort, 1) if one_run else f"{test.label} on {test.cohort}"


def differences_plot(pairs: list[Pair]) -> Plot | None:
    """Plot paired differences around 0; None if no difference is defined."""
    rows = []
    for pair in pairs:
        difference = pair.difference
        if not pair.refused and np.isfinite(difference.estimate):
            name = pair.name.replace(" − ", "\n− ") + (" *" if pair.primary else "")
            limits = {"low": defined(difference.low), "high": defined(difference.high), "p": defined(pair.p_holm)}
            rows.append((name, {"difference": difference.estimate, **limits}))
    if not rows:
        return None
    return differences_forest(rows, f"difference of {pairs[0].a.endpoint.axis_name}")
