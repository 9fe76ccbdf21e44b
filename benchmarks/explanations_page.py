"""The page of `explanations.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dmml.evaluation.report.formatting import joined, number, percent

COMMAND = "python benchmarks/explanations.py --out docs/results"
TITLES = {"demo": "The demo's student", "no_backbone": "The same student without a backbone"}
_PARTS = {"all": "all parts", "tumor": "tumor", "tme": "TME", "tissue": "tissue-specific part"}


def page(results: Mapping[str, Any]) -> str:
    """Markdown of the results."""
    lines = [
        "# Explanations against the truth, and their faithfulness",
        "",
        "Do the maps of `dmml predict-slide --explain full` find the true tumor and microenvironment of simulated held-out "
        "slides, and does the model's output depend on the tiles that they name?",
        "",
        f"    {COMMAND}",
        "",
        "The held-out slides of `make demo`, from other sites with another stain, each predicted by itself. A tile is tumor if "
        "tumor is its most frequent tissue; stroma, normal tissue and lymphoid aggregates count as microenvironment (TME). "
        "All values are means over slides with their 95 % bootstrap interval.",
        "",
        "- **AUC**: how well a map of the tumor's part separates the tumor tiles of a slide from its other tiles, and a map of "
        "the TME's part the TME tiles from the tumor; chance is 0.5. Slides whose tiles are all of one kind are left out.",
        f"- **Deletion**: tiles are removed in the map's order, in steps of {100 * results['shares'][0]:g} to {100 * results['shares'][-1]:g} % of the "
        "tiles, and the network runs again. The area "
        "is the mean fall of the logit of the part that the map explains, in log-odds; for attention, which has no sign, the "
        f"mean change. *Better* is the share of slides on which the map is better than {results['orders']} random orders at "
        "p ≤ 0.05. An order that says nothing is better on 5 % of the slides.",
    ]
    for name, student in results["students"].items():
        lines += ["", f"## {TITLES[name]}", "", _deep_part(student), *_region_table(student["regions"])]
        lines += _deletion_table(student["deletion"])
        lines += ["", *_findings(student)]
    return "\n".join([*lines, "", _LIMITS, ""])


_LIMITS = (
    "The truth says where the tissue of a subspace is. It does not say what the model reads: a map may be faithful to a model "
    "that decides by other tiles, and the model's part of a subspace may rest on tissue of the other. So the AUC measures the "
    "model and its map together, and the deletion test the map alone. Slides are small, with about 8 tiles at 10x and 22 at 20x, "
    "and one simulated cohort and one fit of each student stand behind all numbers."
)


def _deep_part(student: Mapping[str, Any]) -> str:
    share = student["deep_share"]
    if not share:
        return (
            f"{student['slides']} slides. The share of the deep part is 0: contributions are exact, and attention, which belongs "
            "to the deep part, does not count in the answer. Its maps are not part of the answer, and are compared all the same."
        )
    return (
        f"{student['slides']} slides. The share of the deep part is {percent(share)}; its contributions are integrated gradients, "
        "which added up within the tolerance on every slide."
    )


def _cell(entry: Mapping[str, float]) -> str:
    return f"{number(entry['value'])} [{number(entry['low'])}, {number(entry['high'])}]"


def _region_table(regions: Mapping[str, Any]) -> list[str]:
    columns = {
        "absolute": "absolute contribution",
        "signed": "signed contribution",
        "attention": "attention",
        "absolute_minus_attention": "absolute − attention",
    }
    lines = ["", "| AUC of the true region | slides | " + " | ".join(columns.values()) + " |", "|---" * 6 + "|"]
    for key, entry in regions.items():
        m, part = key.split("_")
        cells = " | ".join(_cell(entry[column]) for column in columns)
        lines.append(f"| {_PARTS[part]}, {m} | {entry['slides']} | {cells} |")
    return lines


def _deletion_table(deletions: Mapping[str, Any]) -> list[str]:
    lines = ["", "| deletion | area | random orders | difference | order of attention | better |", "|---" * 6 + "|"]
    for key, entry in deletions.items():
        m, part, kind = key.split("_")
        attention = _cell(entry["by_attention"]) if "by_attention" in entry else "–"
        cells = [_cell(entry[column]) for column in ("area", "random", "minus_random")]
        lines.append(
            f"| {kind}, {_PARTS[part]}, {m} | {' | '.join(cells)} | {attention} | {percent(entry['better'])} |"
        )
    return lines


def _findings(student: Mapping[str, Any]) -> list[str]:
    """State which maps differ from chance, from attention and from random orders, by their intervals."""
    regions, deletions = student["regions"], student["deletion"]
    chance = _sorted_by({key: _relation(entry["absolute"], 0.5) for key, entry in regions.items()})
    attention = _sorted_by({key: _relation(entry["absolute_minus_attention"], 0) for key, entry in regions.items()})
    lines = [
        f"- Absolute contributions against chance, by AUC: {_groups(chance)}.",
        f"- Absolute contributions against attention, by AUC: {_groups(attention)}.",
    ]
    for kind in ("contribution", "attention"):
        of_kind = {
            key.removesuffix(f"_{kind}"): _relation(entry["minus_random"], 0)
            for key, entry in deletions.items()
            if key.endswith(f"_{kind}")
        }
        if of_kind:
            lines.append(f"- Deletion by {kind} against random orders: {_groups(_sorted_by(of_kind))}.")
    return lines


def _sorted_by(relations: Mapping[str, str]) -> dict[str, list[str]]:
    """Return {relation: the maps of which it is true, in words}."""
    groups: dict[str, list[str]] = {}
    for key, relation in relations.items():
        m, part = key.split("_")
        groups.setdefault(relation, []).append(f"{_PARTS[part]} at {m}")
    return groups


def _groups(groups: Mapping[str, list[str]]) -> str:
    order = ("better", "worse", "no difference that the interval shows")
    return "; ".join(f"{relation} for {joined(groups[relation])}" for relation in order if relation in groups)


def _relation(entry: Mapping[str, float], reference: float) -> str:
    """Name where an interval lies: above a reference, below it, or around it."""
    if entry["low"] > reference:
        return "better"
    return "worse" if entry["high"] < reference else "no difference that the interval shows"
