"""What each part is worth in each scene: paired differences on the same test patients, and verdicts by a fixed rule.

A difference is the concordance with the part minus that without it, so that it is positive where the part helps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ablation_networks import ABLATED, BY_FAMILY, FAMILIES, VARIANTS, reference_of
from ablation_variants import CONTROL, REMOVED, SCENES, Scene
from paired_resamples import Draws, Resampled, difference
from worlds_cells import Group
from worlds_data import ORACLES
from worlds_references import REFERENCES

from dmml.evaluation.bootstrap import holm
from dmml.types import SUBSPACES

RESAMPLES = 4000
"""Enough for p values that remain below `SURE` after the adjustment over a family"""
SURE = 0.05

Results = dict[Group, dict[str, dict[str, Any]]]
Truths = dict[Group, dict[str, list[float]]]


def summarise(results: Results, truths: Truths) -> dict[str, Any]:
    """Content of the page in plain Python.

    Args:
        results: {group: {model: kept result}}.
        truths: {group: truth about its test patients}.

    Returns:
        {"scenes": one block for each scene with results, "families": {family: its parts with comparisons and verdict},
        "code": states of the code that made the networks' results}.
    """
    blocks, draws = [], {}
    for scene in SCENES:
        groups = {group.seed: group for group in results if (group.world, group.patients) == scene}
        if not groups:
            continue
        by_model = _by_model({seed: results[group] for seed, group in groups.items()})
        draws[scene] = _Scene(by_model, {seed: truths[group] for seed, group in groups.items()})
        blocks.append({"world": scene[0], "patients": scene[1], "seeds": sorted(groups), **draws[scene].models()})
    families = {name: _family(name, draws) for name in FAMILIES if name in BY_FAMILY}
    made = (result for models in results.values() for name, result in models.items() if name not in REFERENCES)
    return {
        "scenes": blocks,
        "families": {name: rows for name, rows in families.items() if rows},
        "code": sorted({result["code"] for result in made}),
    }


def _by_model(by_seed: dict[int, dict[str, dict[str, Any]]]) -> dict[str, dict[int, dict[str, Any]]]:
    """{seed: {model: result}} → {model: {seed: result}}."""
    fitted = {name for results in by_seed.values() for name in results}
    models = [name for name in (*REFERENCES, *ABLATED) if name in fitted]
    return {name: {seed: of[name] for seed, of in sorted(by_seed.items()) if name in of} for name in models}


class _Scene:
    """The results of one scene, and the resamples of its test patients.

    Args:
        results: {model: {seed: kept result}}.
        truths: {seed: truth about the test patients}.
    """

    def __init__(self, results: dict[str, dict[int, dict[str, Any]]], truths: dict[int, dict[str, list[float]]]):
        self.results, self.truths = results, truths
        outcomes = {seed: {name: np.asarray(of[name]) for name in ("time", "event")} for seed, of in truths.items()}
        self._resampled = Resampled(outcomes, RESAMPLES)

    def draws(self, model: str, seeds: list[int]) -> Draws:
        """Concordance of a model or an oracle on some of its seeds."""
        of = {seed: truth[model] for seed, truth in self.truths.items()} if model in ORACLES else None
        risks = {seed: self.results[model][seed]["risk"] if of is None else of[seed] for seed in seeds}
        return self._resampled.draws({seed: np.asarray(risk) for seed, risk in risks.items()})

    def models(self) -> dict[str, Any]:
        """Concordance, time, memory and factors of every model."""
        rows = {}
        for name in (*ORACLES, *self.results):
            seeds = sorted(self.results[name] if name in self.results else self.truths)
            drawn = self.draws(name, seeds)
            value, low, high = drawn.interval
            rows[name] = {"value": value, "low": low, "high": high, "by_seed": drawn.by_seed.tolist()}
            if name in self.results:
                rows[name] |= _facts([self.results[name][seed] for seed in seeds])
        return {"models": rows}

    def comparison(self, reference: str, variant: str) -> dict[str, Any] | None:
        """The reference minus the variant on the seeds of both; None if there are none."""
        seeds = sorted(self.results.get(reference, {}).keys() & self.results.get(variant, {}).keys())
        if not seeds:
            return None
        with_part, without = self.draws(reference, seeds), self.draws(variant, seeds)
        estimate, low, high, p = difference(with_part, without)
        by_seed = (with_part.by_seed - without.by_seed).tolist()
        return {"estimate": estimate, "low": low, "high": high, "p": p, "by_seed": by_seed, "seeds": seeds}


def _facts(kept: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean seconds of a fit, peak memory, epoch, share of the deep part and factors in the embeddings."""
    facts = [result["facts"] for result in kept]
    row: dict[str, Any] = {"seconds": float(np.mean([result["seconds"] for result in kept]))}
    for name in ("gib", "chosen_epoch", "deep_share"):
        values = [each[name] for each in facts if each.get(name) is not None]
        row[name] = float(np.mean(values)) if values else None
    measured = [each["partial_r2"] for each in facts if "partial_r2" in each]
    if measured:
        row["partial_r2"] = {which: mean_r2([each[which] for each in measured]) for which in measured[0]}
    return row


def mean_r2(fits: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Mean over fits of {subspace: {"own", "other"}}."""
    return {s: {of: float(np.mean([fit[s][of] for fit in fits])) for of in ("own", "other")} for s in SUBSPACES}


# ---- families --------------------------------------------------------------------------------------------------------


def _family(name: str, scenes: dict[Scene, _Scene]) -> dict[str, dict[str, Any]]:
    """{network: its part, comparisons by scene, and verdict} of a family's variants that were fitted."""
    rows = {}
    for network, (family, variant) in VARIANTS.items():
        if family != name:
            continue
        compared = {scene: each.comparison(reference_of(network), network) for scene, each in scenes.items()}
        comparisons = [
            {"world": scene[0], "patients": scene[1], "named": scene in variant.named, **values}
            for scene, values in compared.items()
            if values is not None
        ]
        if comparisons:
            rows[network] = {
                "part": variant.part,
                "kind": variant.kind,
                "of": variant.of,
                "reference": reference_of(network),
                "comparisons": comparisons,
            }
    adjust(rows)
    for row in rows.values():
        row["verdict"] = verdict(row["kind"], row["comparisons"])
    return rows


def adjust(rows: dict[str, dict[str, Any]]) -> None:
    """Adjust the p values of a family by Holm, over the comparisons that were named in advance; controls are none."""
    named = [
        comparison
        for row in rows.values()
        if row["kind"] != CONTROL
        for comparison in row["comparisons"]
        if comparison["named"]
    ]
    adjusted = holm([comparison["p"] for comparison in named]) if named else []
    for comparison, p in zip(named, adjusted, strict=True):
        comparison["p_holm"] = float(p)


def contributes(comparison: dict[str, Any]) -> bool:
    """Whether a part is shown to help: named in advance, adjusted p below `SURE`, and interval above 0."""
    return comparison.get("p_holm", 1.0) < SURE and comparison["low"] > 0


def harms(comparison: dict[str, Any]) -> bool:
    """Whether the interval lies below 0, in a scene that was named in advance or not."""
    return comparison["high"] < 0


def verdict(kind: str, comparisons: list[dict[str, Any]]) -> str:
    """The verdict in words, with the scenes that it rests on."""
    if kind == CONTROL:
        outside = sum(comparison["low"] > 0 or harms(comparison) for comparison in comparisons)
        return f"{outside} of {len(comparisons)} intervals leave out 0"
    good, bad, none = (
        ("contributes", "harms", "no effect shown") if kind == REMOVED else ("better", "worse", "no difference shown")
    )
    matching = [
        f"{word} ({', '.join(scene_name(comparison) for comparison in comparisons if holds(comparison))})"
        for word, holds in ((good, contributes), (bad, harms))
        if any(map(holds, comparisons))
    ]
    return "; ".join(matching) or none


def scene_name(block: dict[str, Any]) -> str:
    """Name of a scene; its number of patients only where it is not that of most."""
    same = [patients for world, patients in SCENES if world == block["world"]]
    alone = len(same) == 1
    return block["world"] if alone or block["patients"] == max(same) else f"{block['world']} {block['patients']}"


def comparison_in(row: dict[str, Any], scene: Scene) -> dict[str, Any] | None:
    """The comparison of a part in a scene, if there is one."""
    matching = (each for each in row["comparisons"] if (each["world"], each["patients"]) == scene)
    return next(matching, None)
