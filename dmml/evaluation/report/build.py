"""Write the report of one or several tests as a self-contained HTML page, and a test folder's metrics and plots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dmml.atomic_files import write_text
from dmml.evaluation import interval_settings
from dmml.evaluation.comparison import Pair, across_cohorts, adjusted, by_cohort, paired
from dmml.evaluation.evaluation_result import Evaluation, read_evaluation
from dmml.evaluation.plots.attention import AttentionSlide, attention_slides
from dmml.evaluation.plots.comparison import differences_plot, models_plot, tests_plot
from dmml.evaluation.plots.plot import Plot, file_name
from dmml.evaluation.plots.user_plots import UserPlot, draw_user_plots
from dmml.evaluation.report.page_variables import (
    MANY_TESTS,
    MAX_SLIDES,
    MAX_SLIDES_OF_MANY,
    run_variables,
    test_variables,
)
from dmml.evaluation.report.pages import PlotInliner, report_page, save_plots
from dmml.evaluation.report.provenance import commands
from dmml.evaluation.report.result_tables import differences_table, models_table
from dmml.evaluation.report.section import Section
from dmml.evaluation.report.sections import sections_of
from dmml.evaluation.report.text.findings import cohort_change_sentences, overlap_sentences, summary
from dmml.evaluation.result_files import write_metrics
from dmml.evaluation.result_folders import find_tests


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
    content = _content(evaluation)
    page = _page([content])
    panels = {f"{panel.name}.png": panel.png() for slide in content.slides for panel in slide.panels}
    section_plots = [plot for section in content.sections for plot in section.plots]
    curves = [plot for plots in page.training_plots.values() for plot in plots]
    save_plots([*content.plots, *section_plots, *curves], evaluation.folder / "plots", panels)
    write_text(evaluation.folder / "report.html", page.html)
    return write_metrics(evaluation)


def write_report(
    paths: Iterable[str | Path], out: str | Path | None = None, user_plots: Sequence[UserPlot] = ()
) -> Path:
    """Write one page for one or several runs, and next to it the plots that do not belong to a single test.

    Args:
        paths: Run folders or single test folders.
        out: Path of the page; default: report.html in the last of `paths`. Plots go to `<name of the page>_plots`.
        user_plots: The user's plots, which are drawn for every test.

    Returns:
        Path of the page.

    Raises:
        InputError: A run is missing or not finished, or one of the user's plots failed.
    """
    folders = [Path(path) for path in paths]
    contents = [_content(read_evaluation(result), user_plots) for result in find_tests(folders)]
    out = Path(out) if out is not None else folders[-1] / "report.html"
    page = _page(contents, [user_plot.name for user_plot in user_plots])
    plots = list(page.comparison_plots)
    for run, curves in page.training_plots.items():
        plots += [_renamed(plot, run) for plot in curves]
    for content in contents:
        test = content.evaluation
        plots += [_renamed(plot, f"{test.run}_{test.cohort}") for plot in content.user_plots]
    if plots:
        save_plots(plots, out.with_name(f"{out.stem}_plots"))
    write_text(out, page.html)
    return out


def _renamed(plot: Plot, prefix: str) -> Plot:
    """The plot with a prefix before the name of its files."""
    return replace(plot, name=file_name(f"{prefix}_{plot.name}"))


@dataclass(frozen=True)
class _Content:
    """A test with everything that the page displays of it."""

    evaluation: Evaluation
    plots: list[Plot]
    sections: list[Section]
    slides: list[AttentionSlide]
    user_plots: list[Plot]


def _content(evaluation: Evaluation, user_plots: Sequence[UserPlot] = ()) -> _Content:
    return _Content(
        evaluation,
        plots=evaluation.endpoint.plots(evaluation) if len(evaluation.with_outcome) else [],
        sections=sections_of(evaluation),
        slides=attention_slides(evaluation.folder / "attention.npz"),
        user_plots=draw_user_plots(user_plots, evaluation),
    )


@dataclass(frozen=True)
class _Page:
    """A page, the plots that compare its tests, and the training curves of each run."""

    html: str
    comparison_plots: list[Plot]
    training_plots: dict[str, list[Plot]]


@dataclass(frozen=True)
class _Comparisons:
    """Paired differences with adjusted p: within each group of tests, and of one run across cohorts."""

    within: list[list[Pair]]
    across: list[Pair]

    @property
    def all(self) -> list[Pair]:
        return [*(pair for pairs in self.within for pair in pairs), *self.across]


def _compare(groups: list[list[Evaluation]], tests: list[Evaluation]) -> _Comparisons:
    """Compare all tests; p values are adjusted over all comparisons of the page together."""
    within = [paired(group) for group in groups]
    pairs = iter(adjusted([pair for group in within for pair in group] + across_cohorts(tests)))
    return _Comparisons([[next(pairs) for _ in group] for group in within], list(pairs))


def _page(contents: list[_Content], user_plots: Sequence[str] = ()) -> _Page:
    tests = [content.evaluation for content in contents]
    groups = by_cohort(tests)
    comparisons = _compare(groups, tests)
    overview, forest = tests_plot(groups), differences_plot(comparisons.all)
    cohort_plots = [models_plot(group) if len(groups) > 1 else None for group in groups]
    # The page opens with one plot: all tests side by side, or the first plot if there is only one test.
    lead = overview or next(iter(contents[0].plots), None)
    if all(test.overlap for test in tests):  # readers would take the plot for the models' performance
        lead = None
    inline = PlotInliner()
    by_test = {id(content.evaluation): content for content in contents}
    max_slides = MAX_SLIDES if len(tests) <= MANY_TESTS else MAX_SLIDES_OF_MANY
    cohorts = [
        {
            "name": group[0].cohort,
            "models": models_table(group),
            "plot": inline.optional(plot),
            "tests": [
                _test_variables(by_test[id(test)], f"t{number}-{index}", lead, inline, max_slides)
                for index, test in enumerate(group, start=1)
            ],
        }
        for number, (group, plot) in enumerate(zip(groups, cohort_plots, strict=True), start=1)
    ]
    first_tests = {test.run_folder.resolve(): test for test in reversed(tests)}
    runs = [run_variables(test, inline) for test in reversed(first_tests.values())]
    html = report_page(
        "report.html",
        f"{' and '.join(dict.fromkeys(test.label for test in tests))} on "
        f"{', '.join(dict.fromkeys(test.cohort for test in tests))}",
        lead_sentences=_sentences(groups, comparisons),
        lead_plot=inline.optional(lead),
        cohorts=cohorts,
        differences=_differences(comparisons.all, inline.optional(forest)),
        runs=[variables for variables, _ in runs],
        commands=commands(tests, user_plots),
        note=_note(),
    )
    comparison_plots = [plot for plot in (overview, *cohort_plots, forest) if plot]
    return _Page(html, comparison_plots, {variables["name"]: plots for variables, plots in runs})


def _test_variables(
    content: _Content, name: str, lead: Plot | None, inline: PlotInliner, max_slides: int
) -> dict[str, Any]:
    """Variables of a test, without the plot that opens the page."""
    plots = [plot for plot in content.plots if plot is not lead] + content.user_plots
    return test_variables(content.evaluation, name, plots, content.sections, content.slides, inline, max_slides)


def _sentences(groups: list[list[Evaluation]], comparisons: _Comparisons) -> list[str]:
    sentences = overlap_sentences([test for group in groups for test in group])
    for number, (group, pairs) in enumerate(zip(groups, comparisons.within, strict=True)):
        sentences += summary(group, pairs, oracle=number == 0)
    return sentences + cohort_change_sentences(comparisons.across)


def _differences(pairs: list[Pair], plot: dict[str, Any] | None) -> dict[str, Any] | None:
    if not pairs:
        return None
    others = sum(not pair.primary and not pair.refused for pair in pairs)
    primary = next((pair for pair in pairs if pair.primary), None)
    note = "Both models are evaluated on the same resampled patients."
    if primary and others:
        note += f" The primary comparison is {primary.name} on {primary.where}, the first given cohort that has both."
    if others > 1:
        note += (
            f" The p values of {'the' if primary else 'all'} {others} {'others' if primary else 'comparisons'} are "
            "adjusted by Holm's method, over all cohorts of this page together."
        )
    return {"table": differences_table(pairs), "plot": plot, "note": note}


def _note() -> str:
    return (
        f"Intervals: {interval_settings.level_text()}, {interval_settings.RESAMPLES} patient-bootstrap resamples drawn within events or "
        "classes (without strata for the Brier score), bias-corrected and accelerated, fixed seed. Survival is evaluated "
        "per patient and is not predicted beyond the follow-up of the training patients."
    )
