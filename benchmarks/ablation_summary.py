"""Summary of the single fits: differences, effects, and targets."""

from __future__ import annotations

from typing import Any

import numpy as np
from ablation_measures import Draws, Resampled, difference, share_closed
from ablation_variants import BY_NAME, CONTROL_TEACHER, REMOVED, STUDENT, TEACHER, UNDISTILLED, Variant

from dmml.evaluation.bootstrap import Difference, Interval, holm
from dmml.types import SUBSPACES

ORACLE, SLIDE_ORACLE = "oracle", "slide-oracle"
SHUFFLED_STUDENT = "student-shuffled-teacher"
MIN_OWN_R2, MAX_OTHER_R2, MIN_SHARE_CLOSED = 0.7, 0.1, 0.6
"""Targets: minimum partial R² of own factors, maximum of the other's, minimum share of the gap that is closed"""
SURE = 0.05

Results = dict[str, dict[int, dict[str, Any]]]
"""{variant: {seed: result of `fit_and_test`}}"""


def summarise(results: Results, truths: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Content of the tables in plain Python.

    Args:
        results: Every variant on every seed of `truths`.
        truths: {seed: result of `write_truth`}.
    """
    resampled = Resampled(truths)
    draws = {
        ORACLE: resampled.draws({seed: truth["oracle"] for seed, truth in truths.items()}),
        SLIDE_ORACLE: resampled.draws({seed: truth["slide_oracle"] for seed, truth in truths.items()}),
    }
    for name, by_seed in results.items():
        if all(result["finite"] for result in by_seed.values()):
            draws[name] = resampled.draws({seed: by_seed[seed]["risk"] for seed in truths})
    variants = {name: _row(BY_NAME[name], by_seed, draws) for name, by_seed in results.items()}
    for kind in (TEACHER, STUDENT):
        _adjust([row for name, row in variants.items() if BY_NAME[name].kind == kind and name != UNDISTILLED])
    for name, row in variants.items():
        row["effect"] = _effect(BY_NAME[name], row["difference"])
    summary = {
        "seeds": list(truths),
        "code": sorted({result["code"] for by_seed in results.values() for result in by_seed.values()}),
        "references": {name: _interval(draws[name]) for name in (ORACLE, SLIDE_ORACLE)},
        "ceilings": _ceilings(list(truths.values())),
        "variants": variants,
        "distillation": _distillation(draws),
    }
    return summary | {"figures": figures(summary)}


# ---- variants ------------------------------------------------------------------------------------------------------


def _row(variant: Variant, by_seed: dict[int, dict[str, Any]], draws: dict[str, Draws]) -> dict[str, Any]:
    variant_draws, default_draws = draws.get(variant.name), draws.get(variant.kind)
    fits = list(by_seed.values())
    row: dict[str, Any] = {
        "change": variant.change,
        "sort": variant.sort,
        "c_index": None
        if variant_draws is None
        else _interval(variant_draws) | {"by_seed": variant_draws.by_seed.tolist()},
        "difference": None,
        "seconds": float(np.mean([fit["seconds"] for fit in fits])),
        "best_epoch": float(np.mean([fit["best_epoch"] for fit in fits])),
        "not_finite": [seed for seed, fit in by_seed.items() if not fit["finite"]],
    }
    for name in ("partial_r2", "partial_r2_shown"):
        row[name] = None if variant_draws is None else _mean_r2([fit[name] for fit in fits])
    if variant.name != variant.kind and variant_draws is not None and default_draws is not None:
        row["difference"] = _difference(difference(variant_draws, default_draws)) | {
            "by_seed": (variant_draws.by_seed - default_draws.by_seed).tolist()
        }
    return row


def _ceilings(truths: list[dict[str, Any]]) -> dict[str, Any]:
    """`ablation_measures.ceilings`, averaged over seeds."""
    all_ceilings = [truth["ceilings"] for truth in truths]
    return {
        reading: {
            which: _mean_r2([seed[reading][which] for seed in all_ceilings]) for which in all_ceilings[0][reading]
        }
        for reading in all_ceilings[0]
    }


def _mean_r2(fits: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {s: {of: float(np.mean([fit[s][of] for fit in fits])) for of in ("own", "other")} for s in SUBSPACES}


def _adjust(rows: list[dict[str, Any]]) -> None:
    """Adjust p values by Holm over all variants of a kind, except the primary comparison, the undistilled student."""
    compared = [row["difference"] for row in rows if row["difference"]]
    for comparison, p in zip(
        compared, holm([comparison["p"] for comparison in compared]) if compared else [], strict=True
    ):
        comparison["p_holm"] = float(p)


def _effect(variant: Variant, comparison: dict[str, Any] | None) -> str:
    """The effect in words: strict where the default wins (Holm), lenient where it loses (unadjusted interval)."""
    if comparison is None:
        return ""
    if comparison["low"] > 0:
        return "harms: better without" if variant.sort == REMOVED else "better"
    if comparison["high"] < 0 and comparison.get("p_holm", comparison["p"]) < SURE:
        return "contributes" if variant.sort == REMOVED else "worse"
    return "no effect shown" if variant.sort == REMOVED else "no difference shown"


def _distillation(draws: dict[str, Draws]) -> dict[str, Any]:
    """Gain of the student by its teacher, and how much of it is due to RNA; {} if a model is missing."""
    comparisons: dict[str, Any] = {}
    pairs = (
        (STUDENT, UNDISTILLED),
        (STUDENT, SHUFFLED_STUDENT),
        (SHUFFLED_STUDENT, UNDISTILLED),
        (TEACHER, STUDENT),
        (TEACHER, CONTROL_TEACHER),
        (SLIDE_ORACLE, UNDISTILLED),
        (SLIDE_ORACLE, STUDENT),
    )
    for a, b in pairs:
        if a in draws and b in draws:
            by_seed = (draws[a].by_seed - draws[b].by_seed).tolist()
            comparisons[f"{a} − {b}"] = _difference(difference(draws[a], draws[b])) | {"by_seed": by_seed}
    if STUDENT in draws and UNDISTILLED in draws:
        share = share_closed(draws[STUDENT], draws[UNDISTILLED], draws[SLIDE_ORACLE])
        comparisons["share_closed"] = None if share is None else share._asdict()
    return comparisons


# ---- targets -------------------------------------------------------------------------------------------------


def figures(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per target: {"asked", "measured", "reached"}; `reached` is None if it could not be measured."""
    variants, distilled = summary["variants"], summary["distillation"]
    rows = [_defaults_hold(kind, variants) for kind in (TEACHER, STUDENT)]
    rows += [_factors(kind, variants[kind]["partial_r2"], "true") for kind in (TEACHER, STUDENT) if kind in variants]
    if STUDENT in variants:
        rows.append(_factors(STUDENT, variants[STUDENT]["partial_r2_shown"], "shown"))
    primary = distilled.get(f"{STUDENT} − {UNDISTILLED}")
    rows.append(
        {
            "asked": "student above the undistilled student, paired interval above 0",
            "measured": "not measured" if primary is None else with_interval(primary),
            "reached": None if primary is None else primary["low"] > 0,
        }
    )
    target = f"share of the gap to the slide oracle closed ≥ {MIN_SHARE_CLOSED:g}"
    share = distilled.get("share_closed")
    if share is None:
        return [*rows, {"asked": target, "measured": "no gap whose interval leaves out 0", "reached": None}]
    measured = f"{share['value']:.2f} ({share['low']:.2f} to {share['high']:.2f})"
    return [*rows, {"asked": target, "measured": measured, "reached": share["value"] >= MIN_SHARE_CLOSED}]


def _defaults_hold(kind: str, variants: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Whether no other setting of a kind has a paired interval above the default's."""
    target = f"{kind}: the default is best or within noise of the best"
    rivals = {
        name: row["difference"]
        for name, row in variants.items()
        if BY_NAME[name].kind == kind and BY_NAME[name].choice and row["difference"]
    }
    if not rivals:
        return {"asked": target, "measured": "not measured", "reached": None}
    best = max(rivals, key=lambda name: rivals[name]["value"])
    better = [name for name, comparison in rivals.items() if comparison["low"] > 0]
    measured = f"best of {len(rivals)} others: {best} {with_interval(rivals[best])}"
    if better:
        measured += f"; above the default: {', '.join(better)}"
    return {"asked": target, "measured": measured, "reached": not better}


def _factors(kind: str, r2: dict[str, dict[str, float]] | None, which: str) -> dict[str, Any]:
    target = f"{kind}, {which} factors: partial R² of own ≥ {MIN_OWN_R2:g}, of the other's ≤ {MAX_OTHER_R2:g}"
    if r2 is None:
        return {"asked": target, "measured": "not measured", "reached": None}
    own_r2, other_r2 = (tuple(r2[s][of] for s in SUBSPACES) for of in ("own", "other"))
    return {
        "asked": target,
        "measured": f"own {own_r2[0]:.2f} (tumor), {own_r2[1]:.2f} (TME); other's {other_r2[0]:.2f}, {other_r2[1]:.2f}",
        "reached": min(own_r2) >= MIN_OWN_R2 and max(other_r2) <= MAX_OTHER_R2,
    }


def with_interval(comparison: dict[str, Any]) -> str:
    """A difference with its interval."""
    return f"{comparison['value']:+.3f} ({comparison['low']:+.3f} to {comparison['high']:+.3f})"


def _interval(draws: Draws) -> dict[str, float]:
    return _plain(draws.interval)


def _difference(comparison: Difference) -> dict[str, float]:
    return {"value": comparison.estimate, "low": comparison.low, "high": comparison.high, "p": comparison.p}


def _plain(interval: Interval) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}
