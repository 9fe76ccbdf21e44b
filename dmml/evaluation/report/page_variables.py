"""Template variables of a report page: those of one test, and those of one run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dmml.evaluation.evaluation_result import Evaluation
from dmml.evaluation.plots.attention import AttentionSlide
from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.plots.training import training_plots
from dmml.evaluation.report.pages import PlotInliner
from dmml.evaluation.report.provenance import configuration, patient_counts, provenance
from dmml.evaluation.report.result_tables import class_table, metrics_table
from dmml.evaluation.report.section import Section
from dmml.evaluation.report.text.coordination import coordination_text
from dmml.evaluation.report.text.deep_part import logits_description, maps_description, maps_title
from dmml.evaluation.report.text.findings import model_description
from dmml.evaluation.report.text.slide_facts import slide_facts
from dmml.evaluation.result_folders import is_run_of
from dmml.html_pages import data_uri

MAX_SLIDES = 4
"""Maximum number of slides with attention maps per test. A few slides are enough to see a pattern."""
MAX_SLIDES_OF_MANY, MANY_TESTS = 2, 3
"""The same on pages of more than `MANY_TESTS` tests, so that they stay below 2 MB."""


def test_variables(
    test: Evaluation,
    name: str,
    plots: Sequence[Plot],
    sections: Sequence[Section],
    slides: Sequence[AttentionSlide],
    inline: PlotInliner,
    max_slides: int,
) -> dict[str, Any]:
    """Variables of one model on one cohort.

    Args:
        test: The evaluation.
        name: HTML id of its part of the page.
        plots: Its plots.
        sections: Its sections.
        slides: Its attention maps.
        inline: Inliner of the page.
        max_slides: Maximum number of slides with attention maps.
    """
    deep_share = test.context.get("deep_share")
    drawable = [slide for slide in slides if slide.panels]
    drawn = drawable[:max_slides]
    selection = next((str(slide.facts["chosen"]) for slide in drawn if slide.facts.get("chosen")), "")
    if len(drawn) < min(len(drawable), MAX_SLIDES):
        selection += (
            f" {len(drawn)} of {len(drawable)} slides are shown here; the others are in the report of the test itself."
        )
    return {
        "id": name,
        "run": test.label,
        "model": model_description(test),
        "logits": logits_description(test.context),
        "metrics": metrics_table(test),
        "plots": [inline(plot) for plot in plots],
        "classes": class_table(test),
        "sections": [inline.section(section) for section in sections],
        "slides": [_slide(slide) for slide in drawn],
        "slides_title": maps_title(deep_share),
        "slides_text": f"{maps_description(test.endpoint.tile_effects, deep_share)} {selection}".strip(),
        "counts": patient_counts(test),
    }


def run_variables(test: Evaluation, inline: PlotInliner) -> tuple[dict[str, Any], list[Plot]]:
    """Variables of one run, and its training curves; no curves if the run was fitted again after the test."""
    table = test.run_folder / "metrics.csv"
    is_same = is_run_of(test.run_folder, test.context)
    curves, coordination = training_plots(table) if is_same else ([], [])
    variables = {
        "name": test.run,
        "no_curves": _no_curves(test, is_same) if not curves and not coordination else "",
        "curves": [inline(plot) for plot in curves],
        "coordination": [inline(plot) for plot in coordination],
        "coordination_text": coordination_text(table) if is_same else "",
        "provenance": provenance(test),
        "config": configuration(test) if is_same else "",
    }
    return variables, [*curves, *coordination]


def _no_curves(test: Evaluation, is_same: bool) -> str:
    """Explain why a run has no training curves."""
    if is_same:
        return "The run folder has no metrics.csv."
    return (
        f"The tested checkpoint is no longer in {test.run_folder}: the run was fitted again after the test, so its "
        "training curves belong to another model. Repeat the test."
    )


def _slide(slide: AttentionSlide) -> dict[str, Any]:
    panels = [
        {
            "title": panel.title,
            "caption": panel.caption,
            "uri": data_uri(panel.jpeg(), "jpeg"),
            "height": panel.pixels.shape[0],
            "width": panel.pixels.shape[1],
        }
        for panel in slide.panels
    ]
    verdict = str(slide.facts.get("verdict") or "")
    kind = "right" if verdict.startswith("right") else "wrong"
    return {"facts": slide_facts(slide.facts), "verdict": verdict, "kind": kind, "panels": panels}
