"""Checks that a feature store belongs to the cohort, and that its features were made as those of the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dmml.data.joined_store import JoinedStore
from dmml.errors import InputError
from dmml.store import FeatureStore
from dmml.store.encoder_identity import complete_identity, describe_stains, same_stains

if TYPE_CHECKING:
    from dmml.cohort.clinical.table import Clinical

MIN_TISSUE_KEY = "least_tissue"
"""Name of the smallest share of tissue of a tile in the record of an extraction"""
ROI_KEY = "roi"
"""Entry in the record of an extraction that read only regions of interest; absent if it read whole slides"""


def check_same_encoder(
    path: str, store: FeatureStore | JoinedStore, n_features: int | None, fitted: Mapping[str, Any]
) -> None:
    """Refuse features whose width, encoder, encoder weights, tile size or stain normalisation differ from the model's.

    Args:
        path: Path of the store, for messages.
        store: Feature store of the cohort.
        n_features: Feature width that the model reads; 0 or None if it reads no slides.
        fitted: What was fitted with the model, including its encoder.

    Raises:
        InputError: The features were made with another encoder or from tiles of another size or with other stains; the message names the difference.
    """
    of_store, of_model = store.attributes["encoder"], fitted.get("encoder") or {}
    of_model = complete_identity(of_model) if of_model else {}
    if n_features and store.n_features != n_features:
        raise InputError(
            f"{path}: {store.n_features} features per tile from the encoder {of_store.get('name')}, but the model was "
            f"trained on {n_features} from {of_model.get('name')}; extract the slides with that encoder"
        )
    columns = [str(encoder.get("weights")) for encoder in (of_store, of_model)]
    if of_model and all(weights.startswith("columns ") for weights in columns) and columns[0] != columns[1]:
        raise InputError(
            f"{path}: its features are other columns than those that the model was trained on, or in another order; import "
            "the same columns into the store with `dmml features import`"
        )
    for key in ("name", "weights"):
        if of_model and of_store and of_model.get(key) != of_store.get(key):
            raise InputError(
                f"{path}: the encoder's {key} is {of_store.get(key)}, but the model was trained on {of_model.get(key)}; "
                "extract the slides with that encoder"
            )
    tile_px = fitted.get("tile_px")  # not recorded by earlier versions
    if tile_px and store.attributes["tile_px"] != tile_px:
        raise InputError(
            f"{path}: its tiles have {store.attributes['tile_px']} px, but the model was trained on tiles of {tile_px} px; extract "
            f"the slides with --tile-px {tile_px}"
        )
    if of_model and not same_stains(of_store, of_model):
        raise InputError(
            f"{path}: its tiles are {describe_stains(of_store)}, but the model was trained on tiles {describe_stains(of_model)}; "
            "extract the slides with the --stain-normalization and --stain-target of the training"
        )


def describe_other_tiles(store: FeatureStore | JoinedStore, fitted: Mapping[str, Any]) -> str:
    """Describe how the tiles of a store were chosen otherwise than those that a model was trained on.

    Other tiles are no reason for a refusal, as another encoder or other stains are: their features mean the same, and
    tissue may have to be found differently on slides of another scanner. But the model is given a part of the slides that
    it was not trained on, which can explain why it is worse.

    Args:
        store: Feature store of the cohort.
        fitted: What was fitted with the model, including the record of its store's extraction.

    Returns:
        A line without a full stop; empty if the choice is the same, or not known of one of them.
    """
    of_store, of_model = (record or {} for record in (store.attributes.get("extraction"), fitted.get("extraction")))
    different = {
        key: (of_store[key], of_model[key])
        for key in ("tissue", MIN_TISSUE_KEY)
        if None not in (of_store.get(key), of_model.get(key)) and of_store[key] != of_model[key]
    }
    notes = []
    if "tissue" in different:
        notes.append("tissue was found by the method {}, on the training slides by {}".format(*different["tissue"]))
    if MIN_TISSUE_KEY in different:
        tested, trained = (f"{100 * share:g} %" for share in different[MIN_TISSUE_KEY])
        notes.append(f"tiles have at least {tested} tissue, on the training slides at least {trained}")
    if of_store and of_model and None not in (roi := [of.get(ROI_KEY, "") for of in (of_store, of_model)]):
        is_restricted, was_restricted = map(bool, roi)
        if is_restricted != was_restricted:
            notes.append(
                f"{describe_roi(is_restricted)} was read, on the training slides {describe_roi(was_restricted)}"
            )
    if not notes:
        return ""
    return (
        f"{' and '.join(notes)}: the model reads other tiles than it was trained on; `dmml extract` with the --tissue, "
        "--min-tissue and --roi of the training would choose the same"
    )


def describe_roi(has_roi: bool) -> str:
    """Say which tissue is read, with or without regions of interest."""
    return "tissue in regions drawn by hand" if has_roi else "all tissue"


def check_has_magnification(path: str, store: FeatureStore, magnifications: Sequence[int]) -> None:
    """Refuse a store that has none of the requested magnifications.

    Raises:
        InputError: The store has none of them; the message names its magnifications and the requested ones.
    """
    of_store = list(store.attributes["magnifications"])
    if not set(of_store) & set(magnifications):
        raise InputError(
            f"{path}: holds tiles at {of_store}, but data.magnifications is {list(magnifications)}; name one of the store's"
        )


def check_slides_match(
    path: str, slides: Sequence[str], clinical: Clinical, matched: Mapping[str, Sequence[str]]
) -> None:
    """Refuse a store with no slide of the cohort's patients, since a model would be trained without slides.

    Args:
        path: Path of the store, for messages.
        slides: Ids of the slides in the store.
        clinical: Clinical table of the cohort.
        matched: {patient: slides in the store}, from `Clinical.match_slides`.

    Raises:
        InputError: No slide belongs to a patient; the message shows one id from the store and one from the table.
    """
    if not slides or any(matched.values()):
        return
    named = (slide for listed in clinical.slides.values() for slide in listed)
    example = next(named, clinical.patients.index[0])
    raise InputError(
        f"{path}: none of its {len(slides)} slides belongs to a patient of {clinical.source} ({slides[0]!r} in the store, "
        f"{example!r} in the table); use the same ids in both, or leave data.features out"
    )
