"""Describe in sentences how much the deep part counts beside the backbone, and what the maps of tiles show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dmml.evaluation.report.formatting import percent

ATTENTION = (
    "Attention of the tumor subspace (orange) and of the tumor microenvironment, TME (blue), at each magnification. A tile "
    "without colour gets no attention."
)


def parts_words(context: Mapping[str, Any]) -> str:
    """Describe what a model's logits consist of, from the context of a test; empty if the context does not say."""
    deep_share = context.get("deep_share")
    if deep_share is None:
        return ""
    parts = (
        "Its logits add up from a tumor part, a TME part and a tissue-specific part, which belongs to neither subspace"
    )
    if not deep_share:
        return (
            f"{parts}. The backbone alone gives them: the deep part counts for nothing, because it did not make the "
            "predictions for the validation patients clearly better."
        )
    return f"{parts}. The backbone gives them, with {percent(deep_share)} of what the deep part has learned beyond it."


def maps_title(deep_share: float | None) -> str:
    """Heading of the maps of a test.

    Args:
        deep_share: Share of the model's deep part; None for a model without a backbone.
    """
    return "Where each subspace looks" if deep_share is None else "What each tile contributes"


def maps_words(tile_effects: tuple[str, str], deep_share: float | None) -> str:
    """Explain how to read the maps of a test.

    Args:
        tile_effects: What red tiles do, and what blue tiles do.
        deep_share: Share of the model's deep part; None for a model without a backbone.
    """
    if deep_share is None:
        return ATTENTION
    red, blue = tile_effects
    words = (
        f"Red tiles {red} and blue tiles {blue}, compared with the tissue of the mean training patient. A patient's RNA "
        "is no part of the maps."
    )
    if deep_share:
        words += " The maps named tumor (orange) and TME (blue) show attention of the deep part."
    return words
