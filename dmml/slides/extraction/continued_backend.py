"""Which library encodes the further slides of a store: the one that it was begun with, or one that gives the same features."""

from __future__ import annotations

import logging

from dmml.errors import InputError
from dmml.slides.encoders.agreement import agree_within_float16, compare, probe_tiles
from dmml.slides.encoders.backend_choice import AUTO
from dmml.slides.encoders.build import load_encoder
from dmml.slides.encoders.encoder import ONNXRUNTIME, TORCH, Encoder, cuda_is_available
from dmml.slides.encoders.onnx_encoder import is_installed
from dmml.slides.extraction.options import ExtractionOptions
from dmml.store import FeatureStore
from dmml.store.encoder_identity import ENCODER_BACKEND

_LOG = logging.getLogger(__name__)


def backend_to_load(store: FeatureStore | None, options: ExtractionOptions) -> str:
    """Return the backend for `load_encoder`: `auto` means that of the store, unless it cannot be used here.

    The features of an interrupted extraction are thereby those of an undisturbed one, to the last bit.

    Args:
        store: The store to continue; None if it does not exist yet.
        options: Options of the extraction.
    """
    if options.backend != AUTO or store is None:
        return options.backend
    stored = _backend_of(store)
    is_usable = is_installed() and not options.compiled and not cuda_is_available()
    return AUTO if stored == ONNXRUNTIME and not is_usable else stored


def check_continued_backend(store: FeatureStore, encoder: Encoder, options: ExtractionOptions) -> None:
    """Check that an encoder gives the features of a store's backend, to within their rounding to float16.

    Raises:
        InputError: They differ on probe tiles, or the store's backend cannot be run for the comparison.
    """
    stored = _backend_of(store)
    if stored == encoder.backend:
        return
    change = f"--out {store.path}: its features were made by {stored}, and now would be made by {encoder.backend}"
    if not isinstance(options.encoder, str):
        raise InputError(f"{change}; load the encoder with backend={stored!r}, or give another --out")
    try:
        former = load_encoder(
            options.encoder, options.weights, "cpu", options.precision, backend=stored, tile_px=encoder.tile_px
        )
    except InputError as error:
        raise InputError(
            f"{change}, but {stored} cannot be run for a comparison ({error}); give another --out"
        ) from error
    tiles = probe_tiles(encoder.tile_px)
    features, reference = encoder(tiles), former(tiles)
    agreement = compare(features, reference)
    if not agree_within_float16(features, reference):
        raise InputError(
            f"{change}, but on probe tiles they differ by more than float16 rounds ({agreement}); give --backend {stored}, or "
            "another --out"
        )
    _LOG.info("%s: continued with %s instead of %s: %s", store.path, encoder.backend, stored, agreement)


def _backend_of(store: FeatureStore) -> str:
    # Stores of earlier versions do not name it.
    return str(store.attributes.get(ENCODER_BACKEND, TORCH))
