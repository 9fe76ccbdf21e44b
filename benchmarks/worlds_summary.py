"""Means over seeds with intervals, paired differences, and the correlation of risks with what a world adds.

Patients are resampled within a seed and within event or not, the same resamples for every model, and the mean over seeds
is taken in each: the interval covers the sampling of patients. The values by seed show how much cohorts differ.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from paired_resamples import Draws, Resampled, difference
from scipy.stats import spearmanr
from worlds_cells import MODELS, Group
from worlds_data import ORACLES
from worlds_references import REFERENCES
from worlds_targets import targets

from dmml.simulate.worlds import WORLDS, World

PAIRS = (
    ("teacher", "best_reference"),
    ("teacher", "ridge_rna"),
    ("teacher", "late_fusion"),
    ("teacher", "mcat_like"),
    ("teacher", "teacher_backbone_alone"),
    ("teacher", "teacher_without_backbone"),
    ("student", "ridge_tokens"),
    ("student", "histology_abmil"),
    ("student", "transmil_like"),
    ("student", "student_undistilled"),
    ("student", "student_backbone_alone"),
    ("student", "student_without_backbone"),
    ("student_undistilled", "ridge_tokens"),
    ("student_undistilled", "histology_abmil"),
)
"""Pairs compared if both were fitted; `best_reference` is the linear reference with the highest mean of the world."""
Results = dict[Group, dict[str, dict[str, Any]]]
Truths = dict[Group, dict[str, list[float]]]


def summarise(results: Results, truths: Truths) -> dict[str, Any]:
    """Content of the page in plain Python.

    Args:
        results: {group: {model: kept result}}.
        truths: {group: truth about its test patients}.

    Returns:
        {"blocks": one for each world and number of patients, "targets": targets and results, "code": states of the
        code that made the networks' results}.
    """
    blocks = []
    for world, patients in sorted({(group.world, group.patients) for group in results}, key=_place):
        groups = {group.seed: group for group in results if (group.world, group.patients) == (world, patients)}
        of_seed = {seed: results[group] for seed, group in groups.items()}
        block = _block(WORLDS[world], of_seed, {seed: truths[group] for seed, group in groups.items()})
        blocks.append({"world": world, "patients": patients, **block})
    made = (result for models in results.values() for name, result in models.items() if name not in REFERENCES)
    return {"blocks": blocks, "targets": targets(blocks), "code": sorted({result["code"] for result in made})}


def _place(key: tuple[str, int]) -> tuple[int, int]:
    return key[1], list(WORLDS).index(key[0])


def _block(
    world: World, results: dict[int, dict[str, dict[str, Any]]], truths: dict[int, dict[str, list[float]]]
) -> dict[str, Any]:
    """One world with one number of patients; keys are seeds."""
    resampled: dict[tuple[int, ...], Resampled] = {}

    def draws(risks: dict[int, Any]) -> Draws:
        seeds = tuple(sorted(risks))
        if seeds not in resampled:
            resampled[seeds] = Resampled({seed: {k: truths[seed][k] for k in ("time", "event")} for seed in seeds})
        return resampled[seeds].draws({seed: np.asarray(risks[seed]) for seed in seeds})

    risks = {name: {s: truth[name] for s, truth in truths.items()} for name in ORACLES}
    for model in MODELS:
        of_model = {seed: models[model]["risk"] for seed, models in results.items() if model in models}
        risks |= {model: of_model} if of_model else {}
    rows = {name: _row(draws(of_model)) for name, of_model in risks.items()}
    for name, of_model in risks.items():
        rows[name]["correlation"] = _correlation(world, of_model, truths)
    for model in MODELS:
        kept = [models[model] for models in results.values() if model in models]
        if kept:
            rows[model]["seconds"] = float(np.mean([result["seconds"] for result in kept]))
    best = max((name for name in REFERENCES if name in rows), key=lambda name: rows[name]["value"], default=None)
    pairs = []
    for a, b in PAIRS:
        against = best if b == "best_reference" else b
        shared = sorted(set(risks.get(a, ())) & set(risks.get(against, ())))
        if shared:
            both = [draws({seed: risks[name][seed] for seed in shared}) for name in (a, against)]
            pairs.append({"a": a, "b": b, "against": against, **_difference(*both), "seeds": shared})
    return {"seeds": sorted(results), "models": rows, "pairs": pairs, "best_reference": best}


def _row(draws: Draws) -> dict[str, Any]:
    value, low, high = draws.interval
    return {"value": value, "low": low, "high": high, "by_seed": draws.by_seed.tolist()}


def _difference(a: Draws, b: Draws) -> dict[str, Any]:
    comparison = difference(a, b)
    by_seed = (a.by_seed - b.by_seed).tolist()
    return {
        "estimate": comparison.estimate,
        "low": comparison.low,
        "high": comparison.high,
        "p": comparison.p,
        "by_seed": by_seed,
    }


def _correlation(world: World, risks: dict[int, Any], truths: dict[int, dict[str, list[float]]]) -> float | None:
    """Mean over seeds of the rank correlation of a risk with what the world adds to the hazard; None where it adds nothing."""
    correlations = [
        _rank_correlation(risk, added)
        for s, risk in risks.items()
        if (added := _added_factor(world, truths[s])) is not None
    ]
    return float(np.mean(correlations)) if correlations else None


def _rank_correlation(a: Any, b: NDArray) -> float:
    """Spearman's rank correlation; 0 if one of the two is constant."""
    correlation = spearmanr(a, b).statistic if np.ptp(a) > 0 else 0.0
    return float(correlation)


def _added_factor(world: World, truth: dict[str, list[float]]) -> NDArray | None:
    """What determines the hazard besides the shared factors, (n,): h, g, or h · g; None if nothing."""
    if world.product_effect:
        return np.asarray(truth["h"]) * np.asarray(truth["g"])
    name = "h" if world.h_effect else "g" if world.g_effect else None
    return None if name is None else np.asarray(truth[name])
