"""Describes the deletion tests of the maps in sentences."""

from __future__ import annotations

from dmml.evaluation.report.formatting import joined, number
from dmml.experiment.predict_slide.explain.deep_division import RELATIVE_TOLERANCE, DeepDivision
from dmml.experiment.predict_slide.explain.deletion import MIN_TILES
from dmml.experiment.predict_slide.explain.faithfulness import ATTENTION, TestedMap

PART_NAMES = {"all": "all parts", "tumor": "tumor", "tme": "TME", "tissue": "tissue-specific part"}


def map_title(tested: TestedMap) -> str:
    """Name a map: "contributions to the tumor, 10×"."""
    what = "attention of the" if tested.kind == ATTENTION else "contributions to"
    article = "" if tested.part == "all" or tested.kind == ATTENTION else "the "
    return f"{what} {article}{PART_NAMES[tested.part]}, {tested.magnification}×"


def verdict(tested: TestedMap) -> str:
    """Write the result of one map's test in a sentence."""
    title, result = map_title(tested), tested.deletion
    title = title[0].upper() + title[1:]
    if result is None:
        return f"{title}: not tested, because there are fewer than {MIN_TILES} tiles."
    low, high = result.random_interval
    change = "lowers" if result.is_signed else "changes"
    measured = (
        f"removing tiles in the map's order {change} the logit by {number(result.area)} on average, and removing them in "
        f"random order by {number(float(result.random.mean()))} [{number(low)}, {number(high)}] (p = {number(result.p, 3)})"
    )
    if result.is_better_than_random:
        conclusion = "this map is better than random"
    else:
        conclusion = "this map is no better than random, so do not rely on it"
    attention = "" if result.attention is None else f"; in the order of attention it is {number(result.attention)}"
    return f"{title}: {conclusion}. {measured[0].upper()}{measured[1:]}{attention}."


def summary(tested: list[TestedMap]) -> str:
    """Summarise the tests of all maps; empty if there are none."""
    if not tested:
        return ""
    results = [each for each in tested if each.deletion is not None]
    if not results:
        return f"The maps were not tested, because each has fewer than {MIN_TILES} tiles."
    useless = [map_title(each) for each in results if each.deletion and not each.deletion.is_better_than_random]
    if not useless:
        return "Removing tiles in the order of a map changes the answer more than removing random tiles, for every map."
    return (
        f"{len(results) - len(useless)} of {len(results)} maps are better than random. No better than random: "
        f"{joined(useless)}."
    )


def deep_part(deep: DeepDivision | None) -> str:
    """Describe how the deep part was divided among tiles; empty if it was not."""
    if deep is None or not deep.parts:
        return ""
    incomplete = [f"{PART_NAMES[s]}, {m}×" for (m, s), part in deep.parts.items() if not part.is_complete]
    sentence = (
        "The deep part of both subspaces is divided among tiles by integrated gradients, from a slide on which every tile is "
        "the mean training tile."
    )
    if not incomplete:
        largest = max(abs(part.gap) for part in deep.parts.values())
        return f"{sentence} The contributions add up to the logits; the largest error is {number(largest, 4)}."
    return (
        f"{sentence} For {joined(incomplete)} the contributions do not add up to the logit within "
        f"{100 * RELATIVE_TOLERANCE:g} %, so do not rely on these maps."
    )


METHOD = (
    "Each map was tested by deletion: the tiles that it calls most supporting are removed first, and the model is run again "
    "after each step. If the map is faithful, the logit of the part that it explains falls faster than when the same "
    "number of random tiles is removed. Attention has no sign, so any change counts for it. The numbers are means over "
    "the steps, in log-odds; random orders have the interval in brackets."
)
"""How the maps were tested, for readers of the page"""
