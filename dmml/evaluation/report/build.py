"""Write the report of one or several tests as a self-contained HTML page, and a test folder's metrics and plots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dmml.atomic_files import write_text
from dmml.evaluation.comparison import Pair, across_cohorts, adjusted, by_cohort, paired
from dmml.evaluation.evaluation_result import Evaluation, read_evaluation
from dmml.evaluation.plots.attention import AttentionSlide, attention_slides
from dmml.evaluation.plots.comparison import differences_plot, models_plot, tests_plot
from dmml.evaluation.plots.plot import Plot, file_name
from dmml.evaluation.plots.user_plots import UserPlot, draw_user_plots
from dmml.evaluation.report.background import commands
from dmml.evaluation.report.pages import PlotInliner, report_page, save_plots
from dmml.evaluation.report.parts import Part, beside
from dmml.evaluation.report.sections import (
    FEW_TESTS,
    FEWER_SLIDES,
    MAX_SLIDES,
    differences_table,
    models_table,
    run_section,
    test_section,
)
from dmml.evaluation.report.text import findings as words
from dmml.evaluation.result_files import write_metrics
from dmml.evaluation.runs import find_tests
from dmml.evaluation.statistics import intervals


def write_evaluation(evaluation: Evaluation | str | Path) -> dict[str, Any]:
    """Write plots/, report.html and metrics.json of a test.

    Args:
        evaluation: The evaluation, or the folder to read it from, `runs/<run>/test/<cohort>`.

    Returns:
        The content of metrics.json.

    Raises:
        InputError: The folder or a file in it is unusable; nothing is written then.
    """
    if not isinstance(evaluation, Evaluation):
        [result] = find_tests([evaluation])
        evaluation = read_evaluation(result)
    shown = _show(evaluation)
    page, _, training = _page([shown])
    test, slides = shown.test, shown.slides
    panels = {f"{panel.name}.png": panel.png() for slide in slides for panel in slide.panels}
    beside_it = [plot for part in shown.parts for plot in part.plots]
    curves = [plot for plots in training.values() for plot in plots]
    save_plots([*shown.plots, *beside_it, *curves], test.folder / "plots", panels)
    write_text(test.folder / "report.html", page)
    return write_metrics(test)


def write_report(
    paths: Iterable[str | Path], out: str | Path | None = None, user_plots: Sequence[UserPlot] = ()
) -> Path:
    """Write one page for one or several runs, and next to it the plots that do not belong to a single test.

    Args:
        paths: Run folders or single test folders.
        out: Path of the page; default: report.html in the last of `paths`. Plots go to `<name of the page>_plots`.
        user_plots: Plots of the user's own, which are drawn for every test.

    Returns:
        Path of the page.

    Raises:
        InputError: A run is missing or not finished, or one of the user's plots failed.
    """
    folders = [Path(path) for path in paths]
    shown = [_show(read_evaluation(found), user_plots) for found in find_tests(folders)]
    out = Path(out) if out is not None else folders[-1] / "report.html"
    page, compared, training = _page(shown, [user_plot.name for user_plot in user_plots])
    curves = [replace(plot, name=file_name(f"{run}_{plot.name}")) for run, plots in training.items() for plot in plots]
    own = [
        replace(plot, name=file_name(f"{one.test.run}_{one.test.cohort}_{plot.name}"))
        for one in shown
        for plot in one.user_plots
    ]
    if compared or curves or own:
        save_plots([*compared, *curves, *own], out.with_name(f"{out.stem}_plots"))
    write_text(out, page)
    return out


@dataclass(frozen=True)
class _Shown:
    """A test with everything that the page displays of it: plots, additional parts, attention maps and the user's plots."""

    test: Evaluation
    plots: list[Plot]
    parts: list[Part]
    slides: list[AttentionSlide]
    user_plots: list[Plot]


def _show(test: Evaluation, user_plots: Sequence[UserPlot] = ()) -> _Shown:
    own = draw_user_plots(user_plots, test)
    slides = attention_slides(test.folder / "attention.npz")
    plots = test.endpoint.plots(test) if len(test.with_outcome) else []
    return _Shown(test, plots, beside(test), slides, own)


def _page(shown: list[_Shown], plot_options: Sequence[str] = ()) -> tuple[str, list[Plot], dict[str, list[Plot]]]:
    """Build the page, the plots that compare its tests, and the training curves of each run."""
    svg = PlotInliner()
    tests = [one.test for one in shown]
    drawn = {id(one.test): one for one in shown}
    groups = by_cohort(tests)
    by_group = [paired(group) for group in groups]
    all_pairs = adjusted([pair for pairs in by_group for pair in pairs] + across_cohorts(tests))
    taken = iter(all_pairs)  # the adjusted pairs in the same order: by cohort first, then those across cohorts
    by_group = [[next(taken) for _ in pairs] for pairs in by_group]
    across = list(taken)
    # The page opens with one plot: all tests side by side, or the first plot if there is only one test.
    compared = [plot for plot in [tests_plot(groups)] if plot]
    lead = next(iter(compared or shown[0].plots), None)
    if all(test.overlap for test in tests):  # readers would take the plot for the models' performance
        lead = None
    cohorts = []
    for number, group in enumerate(groups, start=1):
        models = models_plot(group) if len(groups) > 1 else None
        compared += [models] if models else []
        sections = [
            test_section(
                test,
                f"t{number}-{index}",
                [plot for plot in drawn[id(test)].plots if plot is not lead] + drawn[id(test)].user_plots,
                drawn[id(test)].parts,
                drawn[id(test)].slides,
                svg,
                MAX_SLIDES if len(tests) <= FEW_TESTS else FEWER_SLIDES,
            )
            for index, test in enumerate(group, start=1)
        ]
        cohorts.append(
            {
                "name": group[0].cohort,
                "models": models_table(group),
                "plot": svg(models) if models else None,
                "tests": sections,
            }
        )
    forest = differences_plot(all_pairs)
    first = {test.run_folder.resolve(): test for test in reversed(tests)}
    runs = [run_section(test, svg) for test in reversed(first.values())]
    page = report_page(
        "report.html",
        f"{' and '.join(dict.fromkeys(test.label for test in tests))} on "
        f"{', '.join(dict.fromkeys(test.cohort for test in tests))}",
        lead_sentences=_sentences(groups, by_group, across),
        lead_plot=svg(lead) if lead else None,
        cohorts=cohorts,
        differences=_differences(all_pairs, forest, svg),
        runs=[section for section, _ in runs],
        commands=commands(tests, plot_options),
        note=_note(),
    )
    curves = {section["name"]: plots for section, plots in runs}
    return page, [*compared, *([forest] if forest else [])], curves


def _note() -> str:
    return (
        f"Intervals: {intervals.level_text()}, {intervals.RESAMPLES} patient-bootstrap resamples drawn within events or classes (freely for "
        "the Brier score), bias-corrected and accelerated, fixed seed. "
        "Survival is judged patient by patient; what lies beyond the training follow-up is not predicted."
    )


def _sentences(groups: list[list[Evaluation]], by_group: list[list[Pair]], across: list[Pair]) -> list[str]:
    found = words.overlap_sentences([test for group in groups for test in group])
    for number, (group, pairs) in enumerate(zip(groups, by_group, strict=True)):
        found += words.summary(group, pairs, oracle=number == 0)
    return found + words.across_words(across)


def _differences(pairs: list[Pair], forest: Plot | None, svg: PlotInliner) -> dict | None:
    if not pairs:
        return None
    others = sum(not pair.primary and not pair.refused for pair in pairs)
    primary = next((pair for pair in pairs if pair.primary), None)
    note = "Both sides are judged on the same resampled patients."
    if primary and others:
        note += f" The primary comparison is {primary.name} on {primary.where}: the first cohort given that has both."
    if others > 1:
        note += f" p of {'the' if primary else 'all'} {others} {'others' if primary else 'comparisons'} is adjusted by "
        note += "Holm's method, over all cohorts of this page together."
    return {"table": differences_table(pairs), "plot": svg(forest) if forest else None, "note": note}
