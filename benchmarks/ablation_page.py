"""The results page of the ablation."""

from __future__ import annotations

from typing import Any

from ablation_networks import FAMILIES
from ablation_summary import SURE, comparison_in, contributes, harms, scene_name
from ablation_variants import SCENES
from worlds_data import scene_named
from worlds_page import interval_text, seeds_text, table

from dmml.types import SUBSPACES

CEILINGS = {
    "shown": "no model: the factors as the slide shows them",
    "taught": "a ridge of the tokens' mean, taught the true factors",
}


def markdown(summary: dict[str, Any]) -> str:
    """The page of docs/results.

    Args:
        summary: Result of `ablation_summary.summarise`, with "command", "setup" and "ceilings".
    """
    lines = ["# Each part alone, where it could matter", "", "![What each part adds in each scene](ablation.png)", ""]
    lines += _rule()
    for name, rows in summary["families"].items():
        lines += [f"## {FAMILIES[name]}", "", *_overview(rows, summary["scenes"])]
    lines += [*_setting(summary), *_references(summary), *_details(summary), *_factors(summary)]
    return "\n".join(lines).rstrip() + "\n"


def _setting(summary: dict[str, Any]) -> list[str]:
    """Scenes, patients, schedule and command."""
    setup = summary["setup"]
    lines = [
        "## Scenes and schedule",
        "",
        "Every network is fitted once for each seed as by `dmml fit`: three quarters of the patients are for training and a "
        f"quarter for inner validation, which ends a fit (at most {setup['max_epochs']} epochs) and chooses its epoch; "
        f"{setup['test']} others are tested once. Learning rate, batch size, width and schedule are dmml's defaults for "
        "all, the paper's model included: the released code's 10 epochs at 2e-4 are for 2,387 slides, and would be "
        "few steps here. Its raster and its anchors are half as many along each side, as these slides are small. The "
        "defaults were chosen on seeds 0 to 4, which are not among these. The paper's model, the forms of the "
        "released code and dmml with its backbone have at most two seeds; the last has few scenes, since inner validation "
        "gives its deep part no share in most other fits.",
        "",
        f"    {summary['command']}",
        "",
        *table(
            ["scene", "patients", "what is in it"],
            (
                [f"`{block['world']}`", str(block["patients"]), scene_named(block["world"]).description]
                for block in summary["scenes"]
            ),
        ),
        "",
    ]
    if len(summary["code"]) > 1:
        lines += [f"The networks were fitted by {len(summary['code'])} states of the code.", ""]
    return lines


def _rule() -> list[str]:
    return [
        "Numbers are Harrell's concordance with the part minus that without it, means over seeds: above 0, the part helps. "
        "For a part named *X, not Y* they are X minus Y. Intervals (95 %) are of the test "
        "patients, resampled within seeds, the same resamples for both networks.",
        "",
        "A part **contributes** if, in a scene that was named for it in advance, the interval lies above 0 and p is below "
        f"{SURE:g} after Holm's adjustment over all such comparisons of the family. It **harms** if any interval lies below "
        "0. Of two forms, the first is *better* or *worse* by the same rule. The intervals do not cover the randomness of a "
        "fit: the rows *another random start* are the reference itself from other initial weights, and show what this "
        "randomness does alone.",
        "",
        "In the tables, a number is bold if its interval leaves out 0, and † marks a scene named in advance; \\* marks an "
        f"adjusted p below {SURE:g}. An empty cell was not run.",
        "",
    ]


# ---- families --------------------------------------------------------------------------------------------------------


def _overview(rows: dict[str, dict[str, Any]], scenes: list[dict[str, Any]]) -> list[str]:
    """Parts × scenes, with verdict and seconds of a fit."""
    used = [scene for scene in SCENES if any(comparison_in(row, scene) for row in rows.values())]
    names = [scene_name({"world": world, "patients": patients}) for world, patients in used]
    header = ["part", *names, "verdict", "seconds of a fit, with and without"]
    cells = []
    for network, row in rows.items():
        values = [_cell(comparison_in(row, scene)) for scene in used]
        cells.append([f"{row['of']}: {row['part']}", *values, row["verdict"], _seconds(network, row, scenes)])
    return [*table(header, cells), ""]


def _cell(comparison: dict[str, Any] | None) -> str:
    if comparison is None:
        return ""
    value = f"{comparison['estimate']:+.3f}"
    value = f"**{value}**" if comparison["low"] > 0 or harms(comparison) else value
    return value + "†" * comparison["named"] + "\\*" * contributes(comparison)


def _seconds(network: str, row: dict[str, Any], scenes: list[dict[str, Any]]) -> str:
    """Mean seconds with and without the part, over the scenes that have both."""
    both = [s["models"] for s in scenes if network in s["models"] and row["reference"] in s["models"]]
    with_part, without = (sum(of[name]["seconds"] for of in both) / len(both) for name in (row["reference"], network))
    return f"{with_part:.0f}, {without:.0f}"


def _details(summary: dict[str, Any]) -> list[str]:
    """Every comparison with interval, p values and seeds."""
    rows = [
        [
            f"`{network}`",
            scene_name(comparison) + "†" * comparison["named"],
            difference_text(comparison),
            f"{comparison['p']:.4f}",
            f"{comparison['p_holm']:.3f}" if "p_holm" in comparison else "",
            ", ".join(f"{value:+.3f}" for value in comparison["by_seed"]),
        ]
        for parts in summary["families"].values()
        for network, row in parts.items()
        for comparison in row["comparisons"]
    ]
    header = ["network without the part", "scene", "reference minus it", "p", "p, Holm", "seed by seed"]
    return ["## All comparisons", "", *table(header, rows), ""]


def difference_text(comparison: dict[str, Any]) -> str:
    """A difference with its interval."""
    return f"{comparison['estimate']:+.3f} ({comparison['low']:+.3f} to {comparison['high']:+.3f})"


# ---- networks --------------------------------------------------------------------------------------------------------


def _references(summary: dict[str, Any]) -> list[str]:
    """Concordance of oracles, references and whole networks, and the time and memory of all."""
    blocks = summary["scenes"]
    varied = {network for rows in summary["families"].values() for network in rows}
    names = list(dict.fromkeys(name for block in blocks for name in block["models"]))
    header = ["model", *(f"{scene_name(block)} (seeds {seeds_text(block['seeds'])})" for block in blocks)]
    whole = (
        [name, *(interval_text(block["models"].get(name)) for block in blocks)] for name in names if name not in varied
    )
    lines = ["## Concordance of the whole networks, and of what is beside them", "", *table(header, whole), ""]
    cells = [
        [name, *(_cost(block["models"].get(name)) for block in blocks)]
        for name in names
        if any("seconds" in block["models"].get(name, {}) for block in blocks)
    ]
    title = "CPU seconds of a fit with its test, and the largest growth of the process in GiB:"
    return [*lines, title, "", *table(["model", *map(scene_name, blocks)], cells), ""]


def _cost(row: dict[str, Any] | None) -> str:
    if row is None or "seconds" not in row:
        return ""
    return f"{row['seconds']:.0f} s" + (f", {row['gib']:.2f}" if row["gib"] is not None else "")


def _factors(summary: dict[str, Any]) -> list[str]:
    """Factors that the embeddings contain, in the scenes in which they were measured."""
    lines = []
    for block in summary["scenes"]:
        measured = {name: row["partial_r2"] for name, row in block["models"].items() if "partial_r2" in row}
        if not measured:
            continue
        limits = summary["ceilings"].get(f"{block['world']} {block['patients']}", {})
        measured |= {CEILINGS[name]: values for name, values in limits.items()}
        header = ["network"]
        header += [f"{which}: {s}, {of}" for which in ("true", "shown") for of in ("own", "other's") for s in SUBSPACES]
        rows = (
            [name, *(f"{r2[w][s][of]:.2f}" for w in ("true", "shown") for of in ("own", "other") for s in SUBSPACES)]
            for name, r2 in measured.items()
        )
        lines += [f"### {scene_name(block)}", "", *table(header, rows), ""]
    if not lines:
        return []
    return [
        "## Factors in the embeddings",
        "",
        "Partial R² of a subspace's own factors given the other's, and of the other's given its own, predicted by a "
        "cross-validated ridge regression from the embeddings of the test patients; for the true factors, and for the "
        "factors as the slide shows them. A student reads the factors as the slide shows them; the last two rows are what "
        "these slides allow at most.",
        "",
        *lines,
    ]
