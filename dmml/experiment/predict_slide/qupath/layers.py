"""Turns an answer into tiles with colours, classes and measurements, one layer per magnification and slide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from dmml.evaluation.plots.style import SUBSPACE_COLOR
from dmml.experiment.predict_slide.answer import Answer
from dmml.experiment.predict_slide.maps import PART_NAMES
from dmml.experiment.predict_slide.prototypes import NONE, Prototypes
from dmml.slides.colour_scale import (
    ATTENTION_MAP,
    CONTRIBUTION_MAP,
    attention_limit,
    colour_table,
    contribution_limit,
)
from dmml.slides.geojson.tile_layer import TileClass, TileLayer, cells_of
from dmml.types import SUBSPACES, Batch, SubspaceOutput

MIN_SHARE = 0.25
"""A tile is named after the direction of its contribution if this reaches this share of the end of the colour scale"""
_RAISES, _LOWERS = (178, 24, 43), (33, 102, 172)
"""Red and blue near the ends of the colour map of contributions"""
_GREY, _YELLOW = (150, 150, 150), (253, 231, 37)


@dataclass(frozen=True)
class _Style:
    """How the N tiles of a magnification are coloured and classified; see `TileLayer`."""

    colour: NDArray[np.uint8]
    classes: tuple[TileClass, ...]
    class_index: NDArray[np.int64]
    neutral: str


def tile_layers(
    answer: Answer, batch: Batch, output: SubspaceOutput, tile_um: Mapping[int, float]
) -> dict[int, list[TileLayer]]:
    """Make the layers of all slides of a patient.

    Colours and classes show what tiles add to the answer, if the model can divide it among them; otherwise the clusters
    of a model with prototypes, or else the attention.

    Args:
        answer: The answer.
        batch: B = 1.
        output: Output of the model for the batch.
        tile_um: {magnification: side of a tile in µm}.

    Returns:
        {index of the slide as in `Bag.slide`: its layers, the coarsest magnification first}.
    """
    layers: dict[int, list[TileLayer]] = {}
    for m, bag in sorted(batch.bags.items()):
        mask = bag.mask[0].numpy()
        if not mask.any():
            continue
        measurements = _measurements(answer, output, m, mask)
        style = _style(answer, measurements, m)
        slide, cell = bag.slide[0].numpy()[mask], cells_of(bag.position[0].numpy()[mask], tile_um[m])
        cluster = _cluster_names(answer.prototypes, m)
        for index in np.unique(slide).tolist():
            rows = np.flatnonzero(slide == index)
            layer = TileLayer(
                m,
                tile_um[m],
                cell[rows],
                style.colour[rows],
                style.classes,
                style.class_index[rows],
                style.neutral,
                {name: values[rows] for name, values in measurements.items()},
                {} if cluster is None else {"cluster": cluster[rows].tolist()},
            )
            layers.setdefault(index, []).append(layer)
    return layers


def _measurements(
    answer: Answer, output: SubspaceOutput, magnification: int, mask: NDArray[np.bool_]
) -> dict[str, NDArray[np.float64]]:
    """Return what the tiles of a magnification add to the answer and its parts, and how much attention they get.

    Attention is in multiples of the patient's average tile, as on the maps; it is left out where the deep part, to which
    it belongs, does not count.
    """
    measurements = {}
    tiles = answer.tiles
    if tiles is not None and magnification in tiles.magnifications:
        parts = {p: v for (m, p), v in tiles.scores.items() if m == magnification and v.any()}
        for part, values in ({"all": tiles.total(magnification)} | parts).items():
            measurements[_contribution(part)] = values
    if tiles is None or tiles.deep_share:
        for s in SUBSPACES:
            share = output.attention[magnification, s][0].double().numpy()[mask]
            measurements[f"attention, {PART_NAMES[s]}"] = share * mask.sum()
    return measurements


def _contribution(part: str) -> str:
    return f"contribution, {PART_NAMES[part]}"


def _style(answer: Answer, measurements: dict[str, NDArray[np.float64]], magnification: int) -> _Style:
    total = measurements.get(_contribution("all"))
    if total is not None:
        return _style_of_contributions(total, answer.presentation.tile_classes(answer.headline))
    if answer.prototypes is not None and magnification in answer.prototypes.cluster:
        return _style_of_clusters(answer.prototypes.cluster[magnification])
    return _style_of_attention(np.mean(list(measurements.values()), axis=0))


def _style_of_contributions(values: NDArray[np.float64], names: tuple[str, str]) -> _Style:
    """Colour tiles as on the maps; those of little effect belong to neither of the two classes."""
    end = contribution_limit(values) or 1.0
    class_index = np.where(np.abs(values) < MIN_SHARE * end, -1, np.where(values > 0, 0, 1))
    classes = (TileClass(names[0], _RAISES), TileClass(names[1], _LOWERS))
    return _Style(_coloured((values / end + 1) / 2, CONTRIBUTION_MAP), classes, class_index, "little effect")


def _style_of_clusters(cluster: NDArray[np.int64]) -> _Style:
    from PIL import ImageColor

    classes = tuple(
        TileClass(f"{PART_NAMES[s]} cluster", cast("tuple[int, int, int]", ImageColor.getrgb(SUBSPACE_COLOR[s])))
        for s in SUBSPACES
    )
    colours = np.array([*(tile_class.colour for tile_class in classes), _GREY], np.uint8)  # −1 is the last one
    return _Style(colours[cluster], classes, cluster, "no cluster")


def _style_of_attention(values: NDArray[np.float64]) -> _Style:
    """Colour tiles by their attention, averaged over the subspaces; those above the average tile are a class."""
    end = attention_limit(values)
    class_index = np.where(values > 1, 0, -1)
    return _Style(
        _coloured(values / end, ATTENTION_MAP),
        (TileClass("attention", _YELLOW),),
        class_index,
        "below average attention",
    )


def _coloured(scaled: NDArray[np.float64], cmap: str) -> NDArray[np.uint8]:
    """(N,) values, 0 to 1 → (N, 3) uint8; values beyond get the colours of the ends."""
    table = colour_table(cmap)
    return np.asarray(table[np.rint(np.clip(scaled, 0, 1) * 255).astype(int)])


def _cluster_names(prototypes: Prototypes | None, magnification: int) -> NDArray[np.object_] | None:
    """(N,) name of each tile's cluster; None for a model without prototypes."""
    if prototypes is None or magnification not in prototypes.cluster:
        return None
    return np.array([*SUBSPACES, NONE], dtype=object)[prototypes.cluster[magnification]]
