"""What results state about a test on patients that the model was trained on: their number, without a verdict."""

from __future__ import annotations

from typing import Any

OVERLAP = "training_patients"
"""Key of `context.json` ({"n": trained on, "of": patients tested}) and, as a metric's entry, of `metrics.json`."""
UNKNOWN_KEY = "training_patients_unknown"
"""Key of `context.json`: true if the checkpoint is of an earlier dmml, which did not record the training patients."""
UNKNOWN = (
    "the checkpoint does not say which patients it was trained on, so nobody can tell whether some of them are among those "
    "tested; the figures are honest only if none is"
)


def overlap_words(n: int, of: int) -> str:
    """Clause that states the overlap, starting with the number."""
    return (
        f"{n} of the {of} patients tested were in the training or inner validation of the model, so these figures do not "
        "tell how it does on new patients"
    )


def overlap_entry(overlap: dict[str, int]) -> dict[str, Any]:
    """The overlap in the form of a metric, so that code that reads `metrics.json` as {metric: entry} still works.

    Args:
        overlap: {"n": training patients among the tested ones, "of": patients tested}.
    """
    n, of = overlap["n"], overlap["of"]
    return {"value": float(n), "low": None, "high": None, "n": of, "events": None, "note": overlap_words(n, of)}
