"""Write the report of a cross-validation: `report.html` in its folder, with the plots in `plots/`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dmml.atomic_files import write_text
from dmml.evaluation import interval_settings
from dmml.evaluation.crossval.model_names import label
from dmml.evaluation.crossval.plots import differences_plot, fold_plot, models_by_metric
from dmml.evaluation.crossval.provenance import command, configuration, provenance
from dmml.evaluation.crossval.results import CrossvalResult, read_crossval
from dmml.evaluation.crossval.sections import SECTIONS
from dmml.evaluation.crossval.sentences import summary
from dmml.evaluation.crossval.tables import differences_table, fold_table, likelihood_ratio_table, models_table
from dmml.evaluation.crossval.training_curves import training_plots_by_model
from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.plots.user_plots import UserPlot, draw_user_plots
from dmml.evaluation.report.pages import PlotInliner, report_page, save_plots
from dmml.evaluation.report.section import Section
from dmml.evaluation.report.text.metric_names import metric_name

HOW_P_IS_FOUND = (
    "p: patient bootstrap, which takes the fitted models as they are. Holm: adjusted over all comparisons but the "
    "primary one. Resampled t: over folds and repeats, so that it also reflects the choice of the training patients; "
    "corrected for the training patients that folds share (Nadeau and Bengio 2003)."
)


def write_crossval_report(
    folder: str | Path, out: str | Path | None = None, user_plots: Sequence[UserPlot] = ()
) -> Path:
    """Write the page of a collected cross-validation, with its plots in `plots/` (or `<name of out>_plots`) next to it.

    Args:
        folder: Folder with `crossval.json` and `oof_predictions.csv`.
        out: Path of the page; default: `report.html` in the folder.
        user_plots: The user's plots.

    Returns:
        Path of the page.

    Raises:
        InputError: The cross-validation was not collected yet, a file is damaged, or one of the user's plots failed.
    """
    folder = Path(folder)
    result = read_crossval(folder)
    with interval_settings.settings_of(result.level, result.n_resamples):
        page, plots = _page(result, user_plots)
    path = folder / "report.html" if out is None else Path(out)
    save_plots(plots, folder / "plots" if out is None else path.with_name(f"{path.stem}_plots"))
    write_text(path, page)
    return path


def _page(result: CrossvalResult, user_plots: Sequence[UserPlot]) -> tuple[str, list[Plot]]:
    """Build the page; also return its plots."""
    metrics = list(dict.fromkeys(metric for entries in result.models.values() for metric in entries))
    metrics.sort(key=lambda metric: metric != result.metric)
    by_metric = {metric: plot for metric in metrics if (plot := models_by_metric(result, metric))}
    differences, folds = differences_plot(result), fold_plot(result)
    training = training_plots_by_model(result)
    sections = [section for make in SECTIONS if (section := make(result))]
    plots = [
        *by_metric.values(),
        *(plot for plot in (differences, folds) if plot),
        *(plot for section in sections for plot in section.plots),
        *(plot for plot, _ in training.values()),
    ]
    if further := draw_user_plots(user_plots, result, [plot.name for plot in plots]):
        sections.append(Section("Further plots", plots=further))
    inline = PlotInliner()
    page = report_page(
        "crossval.html",
        f"Cross-validation on {result.cohort}",
        cohort=result.cohort,
        sentences=summary(result),
        lead_plot=inline.optional(by_metric.get(result.metric)),
        models=models_table(result, metrics),
        by_metric=[(metric_name(m, result.endpoint)[0], inline(p)) for m, p in by_metric.items() if m != result.metric],
        undefined=_undefined(result),
        differences=_differences(result, inline.optional(differences)),
        added=likelihood_ratio_table(result),
        training=[(name, inline(plot), note) for name, (plot, note) in training.items()],
        folds=inline.optional(folds),
        fold_table=fold_table(result),
        sections=[inline.section(section) for section in sections],
        origin=provenance(result),
        config=configuration(result),
        commands=[command(result), _report_command(result, user_plots)],
        note=_note(),
    )
    return page, [*plots, *further]


def _differences(result: CrossvalResult, plot: dict[str, Any] | None) -> dict[str, Any] | None:
    if not result.comparisons:
        return None
    return {"table": differences_table(result), "plot": plot, "note": HOW_P_IS_FOUND}


def _report_command(result: CrossvalResult, user_plots: Sequence[UserPlot]) -> str:
    options = [word for user_plot in user_plots for word in ("--plot", user_plot.name)]
    return shlex.join(["dmml", "report", str(result.folder), *options])


def _note() -> str:
    return (
        f"Intervals: {interval_settings.level_text()}, {interval_settings.RESAMPLES} patient-bootstrap resamples, each of which draws a "
        "patient with all folds, repeats and seeds; bias-corrected and accelerated, fixed seed. Inner validation patients "
        "chose a network's epoch, and cross-validation among all training patients chose a regression's penalty; the "
        "patients of a fold were tested once."
    )


def _undefined(result: CrossvalResult) -> list[str]:
    """Sentences about values that are undefined and models that are left out, with each reason once."""
    by_reason: dict[str, list[str]] = {}
    for model, entries in result.models.items():
        for fold, reason in (entries[result.metric].get("undefined") or {}).items():
            by_reason.setdefault(f"is undefined in {fold}: {reason}", []).append(label(model))
    name = metric_name(result.metric, result.endpoint)[0]
    sentences = [f"{name} {text} ({', '.join(models)})." for text, models in by_reason.items()]
    missing = result.content.get("missing") or {}
    return sentences + [
        f"{label(model)} is left out, because it is not finished in {', '.join(folds[:5])}."
        for model, folds in missing.items()
    ]
