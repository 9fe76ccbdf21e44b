"""From the results of single fits to what the ablation says: differences, effects, and the figures that are asked."""

from __future__ import annotations

from typing import Any

import numpy as np
from ablation_measures import Draws, Resampled, difference, share_closed
from ablation_variants import BY_NAME, CONTROL_TEACHER, REMOVED, STUDENT, TEACHER, UNDISTILLED, Variant

from dmml.evaluation.bootstrap import Difference, Interval, holm
from dmml.types import SUBSPACES

ORACLE, SLIDE_ORACLE = "oracle", "slide-oracle"
SHUFFLED_STUDENT = "student-shuffled-teacher"
OWN, OTHER_GROUP, SHARE = 0.7, 0.1, 0.6
"""Asked: partial R² of own factors at least, of the other's at most; share of the gap closed at least"""
SURE = 0.05

Results = dict[str, dict[int, dict[str, Any]]]
"""{variant: {seed: what `fit_and_test` returned}}"""


def summarise(results: Results, truths: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """All that the tables hold, in plain Python.

    Args:
        results: Every variant on every seed of `truths`.
        truths: {seed: what `write_truth` returned}.
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
    own, default = draws.get(variant.name), draws.get(variant.kind)
    fits = list(by_seed.values())
    row: dict[str, Any] = {
        "change": variant.change,
        "sort": variant.sort,
        "c_index": None if own is None else _interval(own) | {"by_seed": own.by_seed.tolist()},
        "difference": None,
        "seconds": float(np.mean([fit["seconds"] for fit in fits])),
        "best_epoch": float(np.mean([fit["best_epoch"] for fit in fits])),
        "not_finite": [seed for seed, fit in by_seed.items() if not fit["finite"]],
    }
    for name in ("partial_r2", "partial_r2_shown"):
        row[name] = None if own is None else _mean_r2([fit[name] for fit in fits])
    if variant.name != variant.kind and own is not None and default is not None:
        row["difference"] = _difference(difference(own, default)) | {
            "by_seed": (own.by_seed - default.by_seed).tolist()
        }
    return row


def _ceilings(truths: list[dict[str, Any]]) -> dict[str, Any]:
    """`ablation_measures.ceilings`, meaned over seeds."""
    found = [truth["ceilings"] for truth in truths]
    return {
        reading: {which: _mean_r2([seed[reading][which] for seed in found]) for which in found[0][reading]}
        for reading in found[0]
    }


def _mean_r2(fits: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {s: {of: float(np.mean([fit[s][of] for fit in fits])) for of in ("own", "other")} for s in SUBSPACES}


def _adjust(rows: list[dict[str, Any]]) -> None:
    """Holm over all variants of a kind; the undistilled student is the primary comparison and stays by itself."""
    compared = [row["difference"] for row in rows if row["difference"]]
    for found, p in zip(compared, holm([found["p"] for found in compared]) if compared else [], strict=True):
        found["p_holm"] = float(p)


def _effect(variant: Variant, found: dict[str, Any] | None) -> str:
    """In words: strict where the default wins (Holm), lenient where it loses (its own interval)."""
    if found is None:
        return ""
    if found["low"] > 0:
        return "harms: better without" if variant.sort == REMOVED else "better"
    if found["high"] < 0 and found.get("p_holm", found["p"]) < SURE:
        return "contributes" if variant.sort == REMOVED else "worse"
    return "no effect shown" if variant.sort == REMOVED else "no difference shown"


def _distillation(draws: dict[str, Draws]) -> dict[str, Any]:
    """What the teacher gives to the student, and how much of it is RNA; {} where a model is missing."""
    found: dict[str, Any] = {}
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
            found[f"{a} − {b}"] = _difference(difference(draws[a], draws[b])) | {"by_seed": by_seed}
    if STUDENT in draws and UNDISTILLED in draws:
        share = share_closed(draws[STUDENT], draws[UNDISTILLED], draws[SLIDE_ORACLE])
        found["share_closed"] = None if share is None else share._asdict()
    return found


# ---- what is asked -------------------------------------------------------------------------------------------------


def figures(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a figure: {"asked", "measured", "reached"}; reached is None where it could not be measured."""
    variants, distilled = summary["variants"], summary["distillation"]
    rows = [_defaults_hold(kind, variants) for kind in (TEACHER, STUDENT)]
    rows += [_factors(kind, variants[kind]["partial_r2"], "true") for kind in (TEACHER, STUDENT) if kind in variants]
    if STUDENT in variants:
        rows.append(_factors(STUDENT, variants[STUDENT]["partial_r2_shown"], "shown"))
    primary = distilled.get(f"{STUDENT} − {UNDISTILLED}")
    rows.append(
        {
            "asked": "student above the undistilled student, paired interval above 0",
            "measured": "not measured" if primary is None else words(primary),
            "reached": None if primary is None else primary["low"] > 0,
        }
    )
    asked = f"share of the gap to the slide oracle closed ≥ {SHARE:g}"
    share = distilled.get("share_closed")
    if share is None:
        return [*rows, {"asked": asked, "measured": "no gap whose interval leaves out 0", "reached": None}]
    measured = f"{share['value']:.2f} ({share['low']:.2f} to {share['high']:.2f})"
    return [*rows, {"asked": asked, "measured": measured, "reached": share["value"] >= SHARE}]


def _defaults_hold(kind: str, variants: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Whether any other setting of a kind has an interval above the default's."""
    asked = f"{kind}: the default is best or within noise of the best"
    rivals = {
        name: row["difference"]
        for name, row in variants.items()
        if BY_NAME[name].kind == kind and BY_NAME[name].choice and row["difference"]
    }
    if not rivals:
        return {"asked": asked, "measured": "not measured", "reached": None}
    best = max(rivals, key=lambda name: rivals[name]["value"])
    better = [name for name, found in rivals.items() if found["low"] > 0]
    measured = f"best of {len(rivals)} others: {best} {words(rivals[best])}"
    if better:
        measured += f"; above the default: {', '.join(better)}"
    return {"asked": asked, "measured": measured, "reached": not better}


def _factors(kind: str, r2: dict[str, dict[str, float]] | None, which: str) -> dict[str, Any]:
    asked = f"{kind}, {which} factors: partial R² of own ≥ {OWN:g}, of the other's ≤ {OTHER_GROUP:g}"
    if r2 is None:
        return {"asked": asked, "measured": "not measured", "reached": None}
    own, other = (tuple(r2[s][of] for s in SUBSPACES) for of in ("own", "other"))
    return {
        "asked": asked,
        "measured": f"own {own[0]:.2f} (tumor), {own[1]:.2f} (TME); other's {other[0]:.2f}, {other[1]:.2f}",
        "reached": min(own) >= OWN and max(other) <= OTHER_GROUP,
    }


def words(found: dict[str, Any]) -> str:
    """A difference with its interval."""
    return f"{found['value']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})"


def _interval(draws: Draws) -> dict[str, float]:
    return _plain(draws.interval)


def _difference(found: Difference) -> dict[str, float]:
    return {"value": found.estimate, "low": found.low, "high": found.high, "p": found.p}


def _plain(found: Interval) -> dict[str, float]:
    return {"value": found.value, "low": found.low, "high": found.high}
