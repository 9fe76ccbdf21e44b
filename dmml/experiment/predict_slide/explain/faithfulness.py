"""Tests every map of an answer by deletion: contributions of the tiles to each part, and attention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dmml.backbone.tile_contributions import PARTS
from dmml.experiment.predict_slide.explain.deletion import (
    MIN_TILES,
    Deletion,
    deletion,
    deletion_curves,
    order_of,
    random_orders,
)
from dmml.experiment.predict_slide.explain.levels import ExplainLevel
from dmml.experiment.predict_slide.explain.tile_subsets import ALL, TileSubsets
from dmml.experiment.predict_slide.tile_scores import TileScores
from dmml.types import SUBSPACES, Batch, SubspaceOutput

if TYPE_CHECKING:
    from dmml.networks.subspace_network import SubspaceNetwork

CONTRIBUTION, ATTENTION = "contribution", "attention"


@dataclass(frozen=True)
class TestedMap:
    """A map of the tiles of one magnification, and its deletion test.

    Attributes:
        kind: "contribution" or "attention".
        magnification: Magnification of the tiles.
        part: "all", a subspace, or "tissue": the part of the answer that the map explains, and by which it is tested.
        n_tiles: Number of tiles.
        deletion: Result of the test; None if there are too few tiles for one.
    """

    kind: str
    magnification: int
    part: str
    n_tiles: int
    deletion: Deletion | None

    @property
    def name(self) -> str:
        """Name of the file of the map, without suffix."""
        prefix = "overlay" if self.kind == ATTENTION else "contribution"
        return f"{prefix}_{self.magnification}x" + ("" if self.part == ALL else f"_{self.part}")


def deletion_tests(
    model: SubspaceNetwork, batch: Batch, output: SubspaceOutput, tiles: TileScores | None, level: ExplainLevel
) -> list[TestedMap]:
    """Test all maps of an answer.

    A map of contributions is tested by the part that it explains. Attention of a subspace is tested by the subspace's
    part, and only where the deep part counts.

    Args:
        model: The model, in eval mode.
        batch: B = 1, without padding.
        output: Output of the model for the batch.
        tiles: What each tile adds; None if the answer is not divided among tiles.
        level: Steps of the removal, and the number of random orders.
    """
    tested: list[TestedMap] = []
    for m in sorted(m for m in model.magnifications if m in batch.bags and bool(batch.bags[m].mask.any())):
        maps = dict(_maps(tiles, output, m))
        n_tiles = batch.bags[m].mask.shape[1]
        results = _deletions(TileSubsets(model, batch, output, m), maps, n_tiles, level)
        tested += [
            TestedMap(kind, m, part, n_tiles, results.get((kind, part)))
            for kind, part in maps
            if _is_displayed(kind, tiles)
        ]
    return tested


def _is_displayed(kind: str, tiles: TileScores | None) -> bool:
    """Whether maps of a kind are part of the answer; attention is not where the deep part does not count."""
    return kind == CONTRIBUTION or tiles is None or tiles.deep_share > 0


def _maps(
    tiles: TileScores | None, output: SubspaceOutput, magnification: int
) -> Iterator[tuple[tuple[str, str], NDArray[np.float64]]]:
    """Yield ((kind, part), (N,) values) of the maps at a magnification; a part to which no tile adds has no map."""
    if tiles is not None and magnification in tiles.magnifications:
        yield (CONTRIBUTION, ALL), tiles.total(magnification)
        for part in PARTS:
            values = tiles.scores.get((magnification, part))
            if values is not None and values.any():
                yield (CONTRIBUTION, part), values
    for s in SUBSPACES:
        yield (ATTENTION, s), output.attention[magnification, s][0].double().cpu().numpy()


def _deletions(
    subsets: TileSubsets, maps: dict[tuple[str, str], NDArray[np.float64]], n_tiles: int, level: ExplainLevel
) -> dict[tuple[str, str], Deletion]:
    """Remove tiles in the orders of all maps and in random ones at once, because a pass gives the scores of all parts."""
    if n_tiles < MIN_TILES:
        return {}
    random = random_orders(n_tiles, level.orders)
    mean_attention = np.mean([values for (kind, _), values in maps.items() if kind == ATTENTION], axis=0)
    values = {**maps, (ATTENTION, ALL): mean_attention}  # of both subspaces, for the map of all parts
    curves = deletion_curves(subsets, np.vstack([random, *(order_of(each) for each in values.values())]), level.shares)
    row = {key: level.orders + i for i, key in enumerate(values)}
    results = {}
    for kind, part in maps:
        outputs = curves.values[part]
        by_attention = row.get((ATTENTION, part)) if kind == CONTRIBUTION else None
        results[kind, part] = deletion(
            curves.shares,
            outputs[row[kind, part]],
            outputs[: level.orders],
            attention=None if by_attention is None else outputs[by_attention],
            is_signed=kind == CONTRIBUTION,
        )
    return results


def faithfulness_record(tested: list[TestedMap]) -> dict[str, Any]:
    """Return the entry `faithfulness` of `prediction.json`: {name of the map: result}."""
    return {each.name: _record(each) for each in tested}


def _record(tested: TestedMap) -> dict[str, Any]:
    result = tested.deletion
    if result is None:
        return {"tiles": tested.n_tiles, "area": None, "better_than_random": None}
    low, high = result.random_interval
    return {
        "tiles": tested.n_tiles,
        "area": result.area,
        "random": {"mean": float(result.random.mean()), "low": low, "high": high, "orders": len(result.random)},
        "attention": result.attention,
        "p": result.p,
        "better_than_random": result.is_better_than_random,
        "counts": "fall of the part's logit" if result.is_signed else "change of the part's logit",
        "removed": result.shares.tolist(),
        "curve": result.curve.tolist(),
        "random_curve": result.random_band[0].tolist(),
    }
