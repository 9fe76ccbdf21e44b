"""What the page on a patient's slides gets of an explanation: verdicts with curves, sheets of tiles, and programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dmml.evaluation.report.formatting import signed
from dmml.experiment.predict_slide.explain import faithfulness_text
from dmml.experiment.predict_slide.explain.deletion_plot import deletion_svg
from dmml.experiment.predict_slide.maps import encoded
from dmml.experiment.predict_slide.text import program_name
from dmml.html_pages import data_uri, unbroken

if TYPE_CHECKING:
    from dmml.experiment.predict_slide.explain.explanation import Explanation

MAX_PROGRAMS = 10
"""Number of programs that the page lists; `prediction.json` has all of them"""


def page_parts(explanation: Explanation) -> dict[str, Any]:
    """Return the variables `faithfulness`, `sheets`, `deep_part` and `program_contributions` of the page's template."""
    return {
        "faithfulness": _faithfulness(explanation),
        "sheets": [
            {
                "uri": data_uri(encoded(sheet.image, "JPEG", quality=85), "jpeg"),
                "measure": sheet.measure,
                "title": f"{faithfulness_text.PART_NAMES[sheet.subspace]}, {sheet.magnification}×",
            }
            for sheet in explanation.sheets
        ],
        "deep_part": faithfulness_text.deep_part(explanation.deep),
        "program_contributions": _programs(explanation),
    }


def _faithfulness(explanation: Explanation) -> dict[str, Any] | None:
    """Return the summary, how maps were tested, and each map's verdict with its curve; None without tests."""
    from markupsafe import Markup

    if not explanation.tested:
        return None
    rows = [
        {
            "name": tested.name,
            "verdict": unbroken(faithfulness_text.verdict(tested)),
            # Markup is safe here: the SVG holds numbers alone.
            "svg": "" if tested.deletion is None else Markup(deletion_svg(tested.deletion)),
        }
        for tested in explanation.tested
    ]
    return {
        "summary": faithfulness_text.summary(explanation.tested),
        "method": faithfulness_text.METHOD,
        "rows": rows,
    }


def _programs(explanation: Explanation) -> list[dict[str, str]]:
    """Return the programs with the largest absolute contributions, largest first."""
    contributions = [
        (name, f"{faithfulness_text.PART_NAMES[s]}, {m}×", value)
        for (m, s), values in explanation.programs.items()
        for name, value in values.items()
    ]
    largest = sorted(contributions, key=lambda each: -abs(each[2]))[:MAX_PROGRAMS]
    return [{"name": program_name(name), "part": part, "value": signed(value, 3)} for name, part, value in largest]
