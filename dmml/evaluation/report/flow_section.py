"""The section with the flow of patients: those that the model was fitted to, and those that it was tested on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dmml.errors import InputError
from dmml.evaluation.evaluation_result import Evaluation
from dmml.evaluation.plots.flow import flow_plot
from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.report.section import Section
from dmml.evaluation.result_folders import is_run_of

CAPTION = (
    "Boxes at the side: patients who are left out, and why. A patient needs slides or RNA; those without an outcome are "
    "predicted, but not evaluated."
)


def flow_section(evaluation: Evaluation) -> Section | None:
    """Flow of the patients of the fit and of the test; None for results of an earlier dmml, which do not record it."""
    plots = []
    record = evaluation.run_folder / "provenance.json"
    if is_run_of(evaluation.run_folder, evaluation.context) and (fitted := _recorded(record)):
        plots.append(checked_flow_plot(fitted, "flow_fit", "Patients of the fit", record))
    if tested := evaluation.context.get("flow"):
        path = evaluation.folder / "context.json"
        plots.append(checked_flow_plot(tested, "flow_test", "Patients of the test", path))
    return Section("Flow of patients", [CAPTION], plots, is_note=True) if plots else None


def checked_flow_plot(flow: Any, name: str, title: str, path: Path) -> Plot:  # noqa: ANN401
    """Draw a recorded flow; see `flow_plot`.

    Raises:
        InputError: The record in `path` is damaged.
    """
    try:
        return flow_plot(flow, name, title)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise InputError(f"{path}: its flow of patients is damaged ({error!r}); run `dmml test` again") from None


def _recorded(path: Path) -> dict[str, Any] | None:
    """Read the flow of a run from its record; None if there is none, or if the record cannot be read."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record.get("flow") if isinstance(record, dict) else None
