"""Means over seeds with intervals, paired differences, and the correlation of risks with what a world adds.

Patients are resampled within a seed and within event or not, the same resamples for every model, and the mean over seeds
is taken in each: the interval is of patients. How much cohorts differ is seen from the seeds side by side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ablation_measures import Draws, Resampled, difference
from numpy.typing import NDArray
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
"""Compared where both were fitted; `best_reference` is the linear reference with the highest mean of the world."""
Results = dict[Group, dict[str, dict[str, Any]]]
Truths = dict[Group, dict[str, list[float]]]


def summarise(results: Results, truths: Truths) -> dict[str, Any]:
    """Everything that the page says, in plain Python.

    Args:
        results: {group: {model: what is kept of it}}.
        truths: {group: what is true of its tested patients}.

    Returns:
        {"blocks": one for each world and number of patients, "targets": what was to be reached, and what was, "code": states of the
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


def _row(found: Draws) -> dict[str, Any]:
    value, low, high = found.interval
    return {"value": value, "low": low, "high": high, "by_seed": found.by_seed.tolist()}


def _difference(a: Draws, b: Draws) -> dict[str, Any]:
    found = difference(a, b)
    by_seed = (a.by_seed - b.by_seed).tolist()
    return {"estimate": found.estimate, "low": found.low, "high": found.high, "p": found.p, "by_seed": by_seed}


def _correlation(world: World, risks: dict[int, Any], truths: dict[int, dict[str, list[float]]]) -> float | None:
    """Mean over seeds of the rank correlation of a risk with what the world adds to the hazard; None where it adds nothing."""
    found = [_rank_correlation(risk, own) for s, risk in risks.items() if (own := _own(world, truths[s])) is not None]
    return float(np.mean(found)) if found else None


def _rank_correlation(a: Any, b: NDArray) -> float:
    """Spearman's, 0 where one of the two is constant."""
    found = spearmanr(a, b).statistic if np.ptp(a) > 0 else 0.0
    return float(found)


def _own(world: World, truth: dict[str, list[float]]) -> NDArray | None:
    """(n,) what decides the hazard beside the shared factors: h, g, or h · g."""
    if world.product_effect:
        return np.asarray(truth["h"]) * np.asarray(truth["g"])
    name = "h" if world.h_effect else "g" if world.g_effect else None
    return None if name is None else np.asarray(truth[name])
