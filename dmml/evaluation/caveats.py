"""What results state about a test whose numbers do not hold for new patients, in neutral words without a verdict.

Two reasons are stated: patients who were tested although the model was trained on them, and RNA that was standardised
within the tested cohort.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OVERLAP = "training_patients"
"""Key of `context.json` ({"n": trained on, "of": patients tested}) and, as a metric's entry, of `metrics.json`."""
UNKNOWN_KEY = "training_patients_unknown"
"""Key of `context.json`: true if the checkpoint is of an earlier dmml, which did not record the training patients."""
UNKNOWN_TEXT = (
    "the checkpoint does not record which patients it was trained on, so some of them may be among the patients tested; "
    "the results hold for new patients only if none of them is"
)


def overlap_text(n: int, of: int) -> str:
    """Clause that states the overlap, starting with the number.

    Args:
        n: Number of tested patients that the model was trained on.
        of: Number of tested patients.
    """
    return (
        f"{n} of the {of} patients tested were in the training or inner validation of the model, so these results do not "
        "show how well it predicts new patients"
    )


def overlap_entry(overlap: Mapping[str, int]) -> dict[str, Any]:
    """The overlap in the form of a metric, so that code that reads `metrics.json` as {metric: entry} still works.

    Args:
        overlap: {"n": training patients among the tested ones, "of": patients tested}.
    """
    n, of = overlap["n"], overlap["of"]
    return {"value": float(n), "low": None, "high": None, "n": of, "events": None, "note": overlap_text(n, of)}


def transductive_text(context: Mapping[str, Any]) -> str:
    """Explain why a test is transductive; empty if it is not, e.g. with a student, which reads no RNA.

    Args:
        context: `context.json` of the test.
    """
    if not (context.get("rna") or {}).get("transductive") or context.get("model") == "student":
        return ""
    return (
        "transductive: RNA standardised within the cohort, so that each prediction depends on the other patients tested"
    )
