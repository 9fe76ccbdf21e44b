"""Targets of the models in the worlds, and whether they are reached."""

from __future__ import annotations

from typing import Any, NamedTuple

PATIENTS = 200
"""Number of patients of most targets."""
DEFAULTS = ("teacher", "student", "student_undistilled")


class Target(NamedTuple):
    """The minimum difference of concordance in one world."""

    world: str
    a: str
    b: str
    at_least: float
    above_zero: bool = False
    """Whether the whole interval must also lie above 0"""


TARGETS = (
    Target("tissue_only", "teacher", "best_reference", 0.010),
    Target("tissue_only", "student", "ridge_tokens", 0.015),
    Target("tissue_only", "student", "histology_abmil", 0.0),
    Target("shared", "teacher", "ridge_rna", -0.003),
    Target("shared", "student", "ridge_tokens", 0.04),
    Target("shared", "student", "student_undistilled", 0.0, above_zero=True),
    Target("rare_tissue", "teacher", "best_reference", 0.04),
    Target("rare_tissue", "student", "ridge_tokens", 0.08),
    Target("composition", "teacher", "best_reference", 0.0),
    Target("composition", "student", "ridge_tokens", 0.0),
    Target("one_magnification", "teacher", "best_reference", 0.0),
    Target("one_magnification", "student", "ridge_tokens", 0.0),
)
SAME_INPUTS = {"teacher": "best_reference", "student": "ridge_tokens", "student_undistilled": "ridge_tokens"}
"""The linear reference with the same inputs as a model"""
NEVER_BELOW = -0.01
MANY_PATIENTS = 800
WHOLE = {"teacher": "teacher_backbone_alone", "student": "student_backbone_alone"}
"""The whole model and its backbone alone: with many patients it must not lose, and if tokens interact it must gain"""
CORRELATION = ("tissue_only", "teacher", 0.35)


def targets(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every target with its measurement and whether it is reached.

    Args:
        blocks: Blocks of `worlds_summary.summarise`.

    Returns:
        {"target", "measured", "reached"} each; `reached` is None if the models have not been fitted.
    """
    of_world = {block["world"]: block for block in blocks if block["patients"] == PATIENTS}
    rows = [_difference(of_world.get(target.world), target) for target in TARGETS]
    rows.append(_correlation(of_world.get(CORRELATION[0])))
    never = [Target(world, a, b, NEVER_BELOW) for world in of_world for a, b in SAME_INPUTS.items()]
    rows += [_difference(of_world[target.world], target) for target in never]
    rows += [_chance(of_world.get("null"), model) for model in DEFAULTS]
    with_many = [block for block in blocks if block["patients"] == MANY_PATIENTS]
    for block in with_many:
        gains = block["world"] == "token_interaction"
        for a, b in WHOLE.items():
            row = _difference(block, Target(block["world"], a, b, 0.0, above_zero=gains))
            rows.append(row | {"target": f"{MANY_PATIENTS} patients, {row['target']}"})
    return rows


def _difference(block: dict[str, Any] | None, target: Target) -> dict[str, Any]:
    sign = "≥" if target.at_least else "not below" if not target.above_zero else "above"
    words = f"{target.world}: {target.a} − {target.b} {sign} {target.at_least:+.3f}".replace("+0.000", "0")
    matching = [p for p in block["pairs"] if (p["a"], p["b"]) == (target.a, target.b)] if block else []
    if not matching:
        return {"target": words, "measured": None, "reached": None}
    pair = matching[0]
    reached = pair["estimate"] >= target.at_least and (not target.above_zero or pair["low"] > 0)
    measured = f"{pair['estimate']:+.3f} ({pair['low']:+.3f} to {pair['high']:+.3f})"
    return {"target": words, "measured": measured, "reached": bool(reached)}


def _correlation(block: dict[str, Any] | None) -> dict[str, Any]:
    world, model, at_least = CORRELATION
    words = f"{world}: rank correlation of the {model}'s risk with h ≥ {at_least:.2f}"
    if block is None or model not in block["models"]:
        return {"target": words, "measured": None, "reached": None}
    value = block["models"][model]["correlation"]
    return {"target": words, "measured": f"{value:.2f}", "reached": bool(value >= at_least)}


def _chance(block: dict[str, Any] | None, model: str) -> dict[str, Any]:
    words = f"null: the interval of the {model}'s concordance holds 0.5"
    if block is None or model not in block["models"]:
        return {"target": words, "measured": None, "reached": None}
    row = block["models"][model]
    measured = f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
    return {"target": words, "measured": measured, "reached": bool(row["low"] <= 0.5 <= row["high"])}
