"""What is stated about results if the test cohort itself was used to prepare the model's input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def transductive_words(context: Mapping[str, Any]) -> str:
    """Explain why a test is transductive; empty if it is not, e.g. with a student, which reads no RNA.

    Args:
        context: `context.json` of the test.
    """
    if not (context.get("rna") or {}).get("transductive") or context.get("model") == "student":
        return ""
    return (
        "transductive: RNA standardised within the cohort, so that each prediction depends on the other patients tested"
    )
