"""Describe in sentences how much the deep part adds to the backbone, and what the maps of tiles show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dmml.evaluation.report.formatting import percent

ATTENTION = (
    "Attention of the tumor subspace (orange) and of the subspace of the tumor microenvironment, TME (blue), at each "
    "magnification. Tiles without colour get no attention."
)


def logits_description(context: Mapping[str, Any]) -> str:
    """Describe what a model's logits consist of, from the context of a test; empty if the context does not say."""
    deep_share = context.get("deep_share")
    if deep_share is None:
        return ""
    parts = "Its logits are the sum of a tumor part, a TME part and a tissue-specific part, which belongs to neither subspace"
    if not deep_share:
        return (
            f"{parts}. They come from the backbone alone: the deep part is left out, because it did not clearly improve "
            "the predictions for the validation patients."
        )
    return f"{parts}. They come from the backbone, plus {percent(deep_share)} of what the deep part adds to it."


def maps_title(deep_share: float | None) -> str:
    """Heading of the maps of a test.

    Args:
        deep_share: Share of the model's deep part; None for a model without a backbone.
    """
    return "Attention of each subspace" if deep_share is None else "What each tile contributes"


def maps_description(tile_effects: tuple[str, str], deep_share: float | None) -> str:
    """Explain how to read the maps of a test.

    Args:
        tile_effects: What red tiles do, and what blue tiles do.
        deep_share: Share of the model's deep part; None for a model without a backbone.
    """
    if deep_share is None:
        return ATTENTION
    red, blue = tile_effects
    text = (
        f"Red tiles {red} and blue tiles {blue}, compared with the tissue of the mean training patient. The maps do not "
        "include what the patient's RNA contributes."
    )
    if deep_share:
        text += " The maps named tumor (orange) and TME (blue) show the attention of the deep part."
    return text
