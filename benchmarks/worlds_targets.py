"""What is asked of the models in the worlds, and whether it was reached."""

from __future__ import annotations

from typing import Any, NamedTuple

PATIENTS = 200
"""Number of patients for which differences are asked."""
DEFAULTS = ("teacher", "student", "student_undistilled")


class Asked(NamedTuple):
    """A difference of concordance that is asked in one world."""

    world: str
    a: str
    b: str
    at_least: float
    above_zero: bool = False
    """Whether the whole interval has to lie above 0, too"""


ASKED = (
    Asked("tissue_only", "teacher", "best_reference", 0.010),
    Asked("tissue_only", "student", "ridge_tokens", 0.015),
    Asked("tissue_only", "student", "histology_abmil", 0.0),
    Asked("shared", "teacher", "ridge_rna", -0.003),
    Asked("shared", "student", "ridge_tokens", 0.04),
    Asked("shared", "student", "student_undistilled", 0.0, above_zero=True),
    Asked("rare_tissue", "teacher", "best_reference", 0.04),
    Asked("rare_tissue", "student", "ridge_tokens", 0.08),
    Asked("composition", "teacher", "best_reference", 0.0),
    Asked("composition", "student", "ridge_tokens", 0.0),
    Asked("one_magnification", "teacher", "best_reference", 0.0),
    Asked("one_magnification", "student", "ridge_tokens", 0.0),
)
SAME_INPUTS = {"teacher": "best_reference", "student": "ridge_tokens", "student_undistilled": "ridge_tokens"}
"""The linear reference that sees what a model sees."""
NEVER_BELOW = -0.01
CORRELATION = ("tissue_only", "teacher", 0.35)


def targets(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Everything that is asked, with what was measured and whether that reaches it.

    Args:
        blocks: See `worlds_summary.summarise`.

    Returns:
        {"asked", "measured", "reached"} each; `reached` is None where the models have not been fitted.
    """
    of_world = {block["world"]: block for block in blocks if block["patients"] == PATIENTS}
    rows = [_difference(of_world.get(asked.world), asked) for asked in ASKED]
    rows.append(_correlation(of_world.get(CORRELATION[0])))
    never = [Asked(world, a, b, NEVER_BELOW) for world in of_world for a, b in SAME_INPUTS.items()]
    rows += [_difference(of_world[asked.world], asked) for asked in never]
    return rows + [_chance(of_world.get("null"), model) for model in DEFAULTS]


def _difference(block: dict[str, Any] | None, asked: Asked) -> dict[str, Any]:
    sign = "≥" if asked.at_least else "not below" if not asked.above_zero else "above"
    words = f"{asked.world}: {asked.a} − {asked.b} {sign} {asked.at_least:+.3f}".replace("+0.000", "0")
    found = [p for p in block["pairs"] if (p["a"], p["b"]) == (asked.a, asked.b)] if block else []
    if not found:
        return {"asked": words, "measured": None, "reached": None}
    pair = found[0]
    reached = pair["estimate"] >= asked.at_least and (not asked.above_zero or pair["low"] > 0)
    measured = f"{pair['estimate']:+.3f} ({pair['low']:+.3f} to {pair['high']:+.3f})"
    return {"asked": words, "measured": measured, "reached": bool(reached)}


def _correlation(block: dict[str, Any] | None) -> dict[str, Any]:
    world, model, at_least = CORRELATION
    words = f"{world}: rank correlation of the {model}'s risk with h ≥ {at_least:.2f}"
    if block is None or model not in block["models"]:
        return {"asked": words, "measured": None, "reached": None}
    value = block["models"][model]["correlation"]
    return {"asked": words, "measured": f"{value:.2f}", "reached": bool(value >= at_least)}


def _chance(block: dict[str, Any] | None, model: str) -> dict[str, Any]:
    words = f"null: the interval of the {model}'s concordance holds 0.5"
    if block is None or model not in block["models"]:
        return {"asked": words, "measured": None, "reached": None}
    row = block["models"][model]
    measured = f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
    return {"asked": words, "measured": measured, "reached": bool(row["low"] <= 0.5 <= row["high"])}
