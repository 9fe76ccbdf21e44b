"""Finds the exported graph of an encoder by the file of its weights, so that the network need not be built."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dmml.errors import InputError
from dmml.slides.encoders.backend_choice import cached_encoder, package_version
from dmml.slides.encoders.encoder import Encoder
from dmml.slides.encoders.graph_cache import GraphCache


def exported_encoder(name: str, weights: Path, backend: str, tile_px: int) -> Encoder | None:
    """Return an encoder that an earlier run built from the same file and exported; None if there is none.

    Args:
        name: Name of the encoder.
        weights: File of its weights.
        backend: See `cached_encoder`.
        tile_px: Side of the tiles that it is given, px.
    """
    try:
        identity = GraphCache().identity_from(_source(name, weights))
    except (InputError, OSError):
        return None  # whoever then builds the network reports it
    return None if identity is None else cached_encoder(identity, backend, logging.INFO, tile_px)


def record_source(name: str, weights: Path, identity: Mapping[str, Any]) -> None:
    """Record which encoder a file of weights belongs to; without a usable cache, nothing is recorded."""
    with contextlib.suppress(InputError, OSError):
        GraphCache().write_source(_source(name, weights), identity)


def _source(name: str, weights: Path) -> str:
    """Hash of what determines an encoder: its name, the file, and the libraries that define the architecture."""
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    versions = [package_version(package) for package in ("timm", "torchvision")]
    return hashlib.sha256(json.dumps([name, digest, *versions]).encode()).hexdigest()[:32]
