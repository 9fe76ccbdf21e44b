"""Writes the page that compares two cross-validations, its numbers as JSON, and its plot."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dmml.atomic_files import write_json, write_text
from dmml.evaluation import interval_settings
from dmml.evaluation.crossval.comparison import ComparedModels, compare_crossvals, patients_warning
from dmml.evaluation.crossval.model_names import label
from dmml.evaluation.crossval.provenance import command, provenance
from dmml.evaluation.crossval.results import CrossvalResult, read_crossval
from dmml.evaluation.plots.forest import differences_forest
from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.report.formatting import number, p_text
from dmml.evaluation.report.pages import PlotInliner, report_page, save_plots
from dmml.evaluation.report.tables import Cell, Table, defined, estimate_cell, interval, value_cell
from dmml.evaluation.report.text.findings import NO_DIFFERENCE


def write_comparison(
    first: str | Path, second: str | Path, more_pairs: Sequence[tuple[str, str]] = (), out: str | Path | None = None
) -> tuple[Path, str]:
    """Write the page that compares two collected cross-validations, with `<name>.json` and `<name>_plots` next to it.

    Args:
        first: Folder of the first cross-validation.
        second: Folder of the second one; differences are the first minus the second.
        more_pairs: See `compare_crossvals`.
        out: Path of the page; default: `comparison_with_<first>.html` in the second folder, beside its own report.

    Returns:
        Path of the page, and a warning if the patients differ, which is empty otherwise.

    Raises:
        InputError: A cross-validation was not collected yet, or the two cannot be compared.
    """
    a, b = read_crossval(Path(first)), read_crossval(Path(second))
    path = b.folder / f"comparison_with_{a.folder.resolve().name}.html" if out is None else Path(out)
    with interval_settings.settings_of(*_settings(a, b)):
        rows = compare_crossvals(a, b, more_pairs)
        warning = patients_warning(a, b, rows)
        plot = _plot(a, rows)
        page = _page(a, b, rows, plot, warning, more_pairs)
        content = {
            "first": str(a.folder),
            "second": str(b.folder),
            "metric": a.metric,
            "level": interval_settings.LEVEL,
            "resamples": interval_settings.RESAMPLES,
            "warning": warning,
            "models": [row.plain() for row in rows],
        }
    if plot:
        save_plots([plot], path.with_name(f"{path.stem}_plots"))
    write_json(path.with_suffix(".json"), content)
    write_text(path, page)
    return path, warning


def _settings(a: CrossvalResult, b: CrossvalResult) -> tuple[float, int]:
    """Level and number of resamples of both, or the present ones if they differ."""
    same = (a.level, a.n_resamples) == (b.level, b.n_resamples)
    return (a.level, a.n_resamples) if same else (interval_settings.LEVEL, interval_settings.RESAMPLES)


def _page(
    a: CrossvalResult,
    b: CrossvalResult,
    rows: Sequence[ComparedModels],
    plot: Plot | None,
    warning: str,
    more_pairs: Sequence[tuple[str, str]],
) -> str:
    options = [word for pair in more_pairs for word in ("--pair", ":".join(pair))]
    return report_page(
        "comparison.html",
        f"{_name(a, b)} against {_name(b, a)}",
        sentences=[_opening(a, b, rows[0]), *([f"Note: {warning}."] if warning else []), *map(_sentence, rows)],
        lead_plot=PlotInliner().optional(plot),
        table=_table(a, b, rows),
        origins=[(_name(a, b), provenance(a)), (_name(b, a), provenance(b))],
        commands=[command(a), command(b), shlex.join(["dmml", "report", str(a.folder), str(b.folder), *options])],
        note=_note(),
    )


def _name(result: CrossvalResult, other: CrossvalResult) -> str:
    """Name of the folder, or its path if both have the same name."""
    names = [each.folder.resolve().name for each in (result, other)]
    return str(result.folder) if names[0] == names[1] else names[0]


def _opening(a: CrossvalResult, b: CrossvalResult, row: ComparedModels) -> str:
    events = "" if row.events is None else f" with {row.events} events"
    return (
        f"{_name(a, b)} and {_name(b, a)} are compared on {row.n} patients{events}, tested in the same {a.n_folds} folds. "
        f"Differences are the {a.endpoint.primary_name} of {_name(a, b)} minus that of {_name(b, a)}."
    )


def _pair_name(row: ComparedModels) -> str:
    return label(row.a) if row.a == row.b else f"{label(row.a)} − {label(row.b)}"


def _sentence(row: ComparedModels) -> str:
    difference = row.difference
    if np.isnan(difference.estimate):
        return f"{_pair_name(row)}: the difference is not defined."
    limits = f"{interval_settings.level_text()} interval {number(difference.low, 3)} to {number(difference.high, 3)}"
    verdict = "" if difference.low > 0 or difference.high < 0 else f"; {NO_DIFFERENCE}"
    return f"{_pair_name(row)}: {number(difference.estimate, 3)} ({limits}, p {p_text(row.p_holm)} by Holm){verdict}."


def _plot(a: CrossvalResult, rows: Sequence[ComparedModels]) -> Plot | None:
    marks = []
    for row in rows:
        estimate, low, high, _ = map(defined, row.difference)
        marks.append((_pair_name(row), {"difference": estimate, "low": low, "high": high, "p": defined(row.p_holm)}))
    return differences_forest(marks, f"difference of {a.endpoint.axis_name}")


def _table(a: CrossvalResult, b: CrossvalResult, rows: Sequence[ComparedModels]) -> Table:
    cells = []
    for row in rows:
        difference = row.difference
        limits = {"low": defined(difference.low), "high": defined(difference.high)}
        values = [{key: defined(x) for key, x in each._asdict().items()} for each in (row.value_a, row.value_b)]
        cells.append(
            [
                Cell(_pair_name(row)),
                *(estimate_cell(value, digits=3) for value in values),
                value_cell(defined(difference.estimate), strong=True),
                Cell(interval(limits), order=limits["low"]),
                *(Cell(p_text(p).removeprefix("= "), order=defined(p)) for p in (difference.p, row.p_holm)),
                Cell(str(row.n), order=row.n),
            ]
        )
    level = f"{interval_settings.level_text()} interval"
    columns = ["model", _name(a, b), _name(b, a), "difference", level, "p", "p, Holm", "patients"]
    caption = f"{a.endpoint.axis_name[0].upper()}{a.endpoint.axis_name[1:]}, pooled over folds, on the common patients"
    return Table(caption, columns, cells, frozenset(range(1, 8)))


def _note() -> str:
    return (
        f"Intervals: {interval_settings.level_text()}, {interval_settings.RESAMPLES} patient-bootstrap resamples that "
        "draw the same patients for both cross-validations, bias-corrected and accelerated, fixed seed. p: of the same "
        "resamples, which take the fitted models as they are; Holm: adjusted over all models of the table."
    )
