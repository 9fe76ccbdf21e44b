"""Writes `attention.npz`: attention and contributions of the tiles of a few example patients, with their thumbnails."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dmml.atomic_files import atomic_write
from dmml.callbacks.collection import CollectPredictions
from dmml.experiment.result_context import deep_shares

if TYPE_CHECKING:
    from dmml.data.joined_store import JoinedStore
    from dmml.data.module import MultimodalDataModule
    from dmml.store.feature_store import FeatureStore
    from dmml.training.subspace_module import SubspaceModule

_OF_THE_FILE = ("source", "source_bytes", "source_time", "source_hash", "dimensions", "bounds", "mpp")
"""Attributes of a slide in the store by which its file is recognised, and tiles are placed on it"""


def write_maps(path: Path, collected: CollectPredictions, model: SubspaceModule, data: MultimodalDataModule) -> None:
    """Write the maps of patients with right and wrong predictions.

    The file holds arrays `position_<i>_<m>`, `attention_<i>_<m>_<subspace>`, `contribution_<i>_<m>` and `thumbnail_<i>`
    of slide i at magnification m, and a JSON text `meta` with one entry per slide.
    """
    arrays: dict[str, NDArray] = {}
    meta: list[dict[str, Any]] = []
    if data.store is not None and not data.store.holds_vectors:  # a vector of a whole slide has no position on it
        _add_examples(arrays, meta, collected, model, data, data.store)
    with atomic_write(path) as partial:
        np.savez_compressed(partial, allow_pickle=False, meta=np.array(json.dumps(meta)), **arrays)


def _add_examples(
    arrays: dict[str, NDArray],
    meta: list[dict[str, Any]],
    collected: CollectPredictions,
    model: SubspaceModule,
    data: MultimodalDataModule,
    store: FeatureStore | JoinedStore,
) -> None:
    """Add the slides of the example patients to the content of the file (see `write_maps`)."""
    from dmml.evaluation.examples import choose_examples

    rows = {row["patient_id"]: row for row in collected.rows}
    maps_of = {maps["patient_id"]: maps for maps in collected.attention}
    for patient, verdict in choose_examples(collected.rows, list(maps_of)).items():
        contributions = tile_contributions(model, data, patient)
        for index, slide_id in enumerate(data.reader.slides.get(patient, [])):
            arrays |= _slide_arrays(len(meta), index, maps_of[patient]["bags"], contributions)
            thumbnail = store.thumbnail(slide_id)
            if thumbnail is not None:
                arrays[f"thumbnail_{len(meta)}"] = thumbnail
            outcome = {key: value for key, value in rows[patient].items() if not key.startswith("survival_")}
            meta.append(outcome | verdict | deep_shares(model) | _slide_scales(store, slide_id))


def _slide_arrays(
    i: int, slide: int, bags: Mapping[int, Mapping[str, Any]], contributions: Mapping[int, NDArray]
) -> dict[str, NDArray]:
    """Return the arrays of one slide.

    Args:
        i: Index of the slide in the file.
        slide: Index of the slide within its patient.
        bags: {magnification: position, slide and attention} of the patient's tiles.
        contributions: {magnification: (N,)} contributions of the patient's tiles.
    """
    arrays = {}
    for m, bag in bags.items():
        on_slide = bag["slide"] == slide
        arrays[f"position_{i}_{m}"] = bag["position"][on_slide]
        for subspace, attention in bag["attention"].items():
            arrays[f"attention_{i}_{m}_{subspace}"] = attention[on_slide]
        if m in contributions:
            arrays[f"contribution_{i}_{m}"] = contributions[m][on_slide]
    return arrays


def _slide_scales(store: FeatureStore | JoinedStore, slide_id: str) -> dict[str, Any]:
    tile_px, magnifications = store.attributes["tile_px"], store.attributes["magnifications"]
    attributes = store.slide_attributes(slide_id)
    return {
        "slide_id": slide_id,
        "file": {name: attributes[name] for name in _OF_THE_FILE if name in attributes},
        "thumbnail_mpp": attributes.get("thumbnail_mpp"),
        "tile_um": {str(m): tile_px * mpp for m, mpp in magnifications.items()},
    }


def tile_contributions(model: SubspaceModule, data: MultimodalDataModule, patient: str) -> dict[int, NDArray]:
    """Return {magnification: (N,)} what each tile of a patient adds to the answer; {} for a model without a backbone.

    Computed only for the few patients who are shown, not for all tested patients.
    """
    if not getattr(model, "has_backbone", False):
        return {}
    import torch

    from dmml.experiment.predict_slide.tile_scores import read_tiles

    model.eval()
    batch = data.collate([patient], with_target=False)([data.reader.read(patient)])
    batch = model.transfer_batch_to_device(batch, next(model.parameters()).device, 0)
    with torch.inference_mode():
        tiles = read_tiles(model, batch, model(batch))
    return {} if tiles is None else {m: tiles.total(m).astype(np.float32) for m in tiles.magnifications}
