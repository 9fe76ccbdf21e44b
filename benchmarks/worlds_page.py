"""The results page of the worlds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dmml.simulate.worlds import WORLDS

REACHED = {True: "yes", False: "**no**", None: "not run"}


def markdown(summary: dict[str, Any]) -> str:
    """The page of docs/results.

    Args:
        summary: Result of `worlds_summary.summarise`, with "command" and "setup".
    """
    lines = [*_head(summary), *_targets(summary["targets"])]
    for patients in sorted({block["patients"] for block in summary["blocks"]}):
        blocks = [block for block in summary["blocks"] if block["patients"] == patients]
        lines += [f"## {patients} patients", ""]
        lines += [*_concordance(blocks), *_pairs(blocks), *_correlations(blocks)]
    return "\n".join([*lines, *_seconds(summary["blocks"])]).rstrip() + "\n"


def _head(summary: dict[str, Any]) -> list[str]:
    setup, worlds = summary["setup"], {block["world"] for block in summary["blocks"]}
    lines = [
        "# Worlds: where the signal lies",
        "",
        f"Harrell's concordance on {setup['test']} test patients, means over seeds with 95 % intervals of the patients "
        "(resampled within a seed, the same resamples for all models). Three quarters of the patients are for "
        "training and "
        f"a quarter for inner validation; tokens have {setup['features']} features at 10x and 20x. About half of the "
        "patients have the event. Test patients come from the sites of the training patients, in `site_shift` from "
        "other sites.",
        "",
        "Ridge models are Cox regressions on 20 principal components of the RNA, on the mean tokens of both "
        "magnifications, "
        "and on both under one penalty (`ridge_joint`), which cross-validation among the training patients chooses; "
        "`ridge_stack` weights the first two scores on inner validation. Networks are fitted as by `dmml fit`, with "
        "the defaults that a user gets. `oracle` is the true risk; the other oracles are the expected log-hazard "
        "given RNA, slides or both without error.",
        "",
        f"    {summary['command']}",
        "",
        "| world | what is in it |",
        "|---|---|",
        *(f"| `{name}` | {world.description} |" for name, world in WORLDS.items() if name in worlds),
        "",
    ]
    if len(summary["code"]) > 1:
        lines += [f"The networks were fitted by {len(summary['code'])} states of the code.", ""]
    return lines


def _targets(rows: list[dict[str, Any]]) -> list[str]:
    cells = ([row["target"], row["measured"] or "", REACHED[row["reached"]]] for row in rows)
    return [
        "![Concordance of all models in all worlds](worlds.png)",
        "",
        "## Targets",
        "",
        *table(["target", "measured", "reached"], cells),
        "",
    ]


def _concordance(blocks: list[dict[str, Any]]) -> list[str]:
    header = ["model", *(f"{block['world']} (seeds {seeds_text(block['seeds'])})" for block in blocks)]
    cells = ([name, *(interval_text(block["models"].get(name)) for block in blocks)] for name in _models(blocks))
    return [*table(header, cells), ""]


def _pairs(blocks: list[dict[str, Any]]) -> list[str]:
    rows = [
        [
            block["world"],
            f"{pair['a']} − {pair['b']}" + (f" ({pair['against']})" if pair["against"] != pair["b"] else ""),
            f"{pair['estimate']:+.3f} ({pair['low']:+.3f} to {pair['high']:+.3f})",
            f"{pair['p']:.3f}",
            ", ".join(f"{value:+.3f}" for value in pair["by_seed"]),
        ]
        for block in blocks
        for pair in block["pairs"]
    ]
    if not rows:
        return []
    header = ["world", "pair", "difference", "p, unadjusted", "seed by seed"]
    return ["Paired differences of concordance:", "", *table(header, rows), ""]


def _correlations(blocks: list[dict[str, Any]]) -> list[str]:
    """Rank correlations, in worlds that add something to the hazard."""
    adding = [block for block in blocks if block["models"]["oracle"]["correlation"] is not None]
    if not adding:
        return []
    cells = (
        [name, *(_two_digits(block["models"].get(name, {}).get("correlation")) for block in adding)]
        for name in _models(adding)
    )
    title = "Rank correlation of the risk with the factor that the world adds to the hazard (h, g, or h · g in `interaction`):"
    return [title, "", *table(["model", *(block["world"] for block in adding)], cells), ""]


def _seconds(blocks: list[dict[str, Any]]) -> list[str]:
    sizes = sorted({block["patients"] for block in blocks})
    models = [name for name in _models(blocks) if any("seconds" in b["models"].get(name, {}) for b in blocks)]
    rows = []
    for name in models:
        of_size = (
            [b["models"][name]["seconds"] for b in blocks if b["patients"] == n and name in b["models"]] for n in sizes
        )
        rows.append([name, *(f"{sum(values) / len(values):.0f}" if values else "" for values in of_size)])
    title = "## CPU seconds of a fit, with testing"
    return [title, "", *table(["model", *(f"{n} patients" for n in sizes)], rows), ""]


def _models(blocks: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for block in blocks for name in block["models"]))


def interval_text(row: dict[str, Any] | None) -> str:
    """`0.700 (0.650–0.750)`, or nothing."""
    return "" if row is None else f"{row['value']:.3f} ({row['low']:.3f}–{row['high']:.3f})"


def _two_digits(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def seeds_text(seeds: list[int]) -> str:
    """`1–4`, or `1, 3`."""
    whole = len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]}–{seeds[-1]}" if whole else ", ".join(map(str, seeds))


def table(header: list[str], rows: Iterable[list[str]]) -> list[str]:
    """Lines of a table."""
    return [_line(header), "|" + "---|" * len(header), *map(_line, rows)]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
