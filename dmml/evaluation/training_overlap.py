"""What results state about a test on patients that the model was trained on: their number, and no verdict."""

from __future__ import annotations

from typing import Any

OVERLAP = "training_patients"
"""Key of `context.json` ({"n": how many, "of": patients tested}) and, as a metric's entry, of `metrics.json`."""
UNKNOWN_KEY = "training_patients_unknown"
"""Key of `context.json`: true where the checkpoint, of an earlier dmml, does not say whom it was trained on."""
UNKNOWN = (
    "the checkpoint does not say which patients it was trained on, so nobody can tell whether some of them are among those "
    "tested; the figures are honest only if none is"
)


def overlap_words(n: int, of: int) -> str:
    """One clause, the number first."""
    return (
        f"{n} of the {of} patients tested were in the training or inner validation of the model, so these figures do not "
        "tell how it does on new patients"
    )


def overlap_entry(overlap: dict[str, int]) -> dict[str, Any]:
    """The count in the form of a metric, so that whoever reads `metrics.json` as {metric: entry} can go on.

    Args:
        overlap: {"n": training patients among those tested, "of": patients tested}.
    """
    n, of = overlap["n"], overlap["of"]
    return {"value": float(n), "low": None, "high": None, "n": of, "events": None, "note": overlap_words(n, of)}
