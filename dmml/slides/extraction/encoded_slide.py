"""A slide while its tiles are encoded, and the outcome."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from dmml.slides.extraction.partial_features import PartialFeatures, input_digest
from dmml.slides.reading.tile_reading import TileBatch
from dmml.slides.slide_error import SlideError
from dmml.slides.tiling.grid import Tiles
from dmml.slides.tiling.layout import Layout, SlideRequest
from dmml.slides.tiling.tile_groups import TileGroup, tile_groups
from dmml.slides.wsi.levels import MAX_UNREADABLE_SHARE
from dmml.store import SlideFeatures

if TYPE_CHECKING:
    from dmml.slides.encoders.encoder import Encoder


@dataclass
class EncodedSlide:
    """The outcome for a slide: its features, or the error that prevented them."""

    request: SlideRequest
    bags: dict[int, SlideFeatures] = field(default_factory=dict)
    layout: Layout | None = None
    """None if there is an error"""
    attributes: dict[str, Any] = field(default_factory=dict)
    error: SlideError | None = None
    resumed_tiles: int = 0
    """Number of tiles that an earlier, interrupted run had already encoded"""
    partial: PartialFeatures | None = None
    """File to remove when the slide is in the store"""


class SlideInProgress:
    """A slide that is being encoded.

    Args:
        request: The slide.
        layout: Where its tiles lie.
        encoder: The encoder, for the width and the identity of the features.
        partial_file: File that keeps features until the slide is complete; None means that they are not kept.
        encoded: {magnification: (N, D) features of all its tiles} that need not be computed.
    """

    def __init__(
        self,
        request: SlideRequest,
        layout: Layout,
        encoder: Encoder,
        partial_file: Path | None,
        encoded: Mapping[int, np.ndarray] = MappingProxyType({}),
    ):
        self.request = replace(
            request,
            slide_stains=layout.stains,
            damaged_levels=layout.damaged_levels,
            laid_out_on=(layout.attributes["source_bytes"], layout.attributes["source_time"]),
        )
        self.layout = layout
        self.features = {m: np.zeros((len(t), encoder.dim), np.float16) for m, t in layout.tiles.items()}
        self.is_encoded = {m: np.zeros(len(t), bool) for m, t in layout.tiles.items()}
        self.n_tiles = sum(len(t) for t in layout.tiles.values())
        self.n_read = self.n_done = self.n_unreadable = 0
        self.is_finished = False
        self.error: SlideError | None = None
        self.partial: PartialFeatures | None = None
        for magnification, features in encoded.items():
            self._keep(magnification, np.arange(len(features)), features)
        if partial_file is not None:
            counts = {magnification: len(tiles) for magnification, tiles in layout.tiles.items()}
            digest = input_digest(layout, encoder, request.stain_normalization)
            self.partial = PartialFeatures(partial_file, digest, counts, encoder.dim, self._keep)
        self.n_done = self.n_resumed = sum(int(encoded.sum()) for encoded in self.is_encoded.values())
        self.groups: Iterator[TileGroup] = filter(self._is_open, tile_groups(layout.tiles, request.tile_px))

    def _is_open(self, group: TileGroup) -> bool:
        """Whether some tile of a group has not been encoded yet."""
        coarse, fine = self.is_encoded[min(self.is_encoded)], self.is_encoded[max(self.is_encoded)]
        return not (coarse[group.row].all() and fine[group.child_row].all())

    def _keep(self, magnification: int, rows: np.ndarray, features: np.ndarray) -> None:
        self.features[magnification][rows] = features
        self.is_encoded[magnification][rows] = True

    def add_features(self, magnification: int, rows: np.ndarray, features: np.ndarray) -> None:
        """Store the (n, D) features of tiles."""
        self._keep(magnification, rows, features)
        self.n_done += len(rows)
        if self.partial is not None and self.error is None:
            self.partial.add(magnification, rows, features)

    def count_read(self, tiles: TileBatch) -> None:
        """Count the tiles that were read.

        Raises:
            SlideError: Too much of the slide cannot be decoded.
        """
        self.n_read += len(tiles.row) + tiles.n_unreadable
        self.n_unreadable += tiles.n_unreadable
        self.n_done += tiles.n_unreadable
        if self.n_unreadable > MAX_UNREADABLE_SHARE * self.n_tiles:
            raise SlideError(
                "unreadable",
                f"{self.request.path}: {self.n_unreadable} of the first {self.n_read} tiles cannot be decoded; fetch the "
                "file again",
            )

    def encoded_slide(self) -> EncodedSlide:
        """The outcome, once all tiles are done."""
        bags = _readable_bags(self.layout.tiles, self.features, self.is_encoded)
        attributes = {
            **self.layout.attributes,
            "tiles": {str(m): len(bag.features) for m, bag in bags.items()},
            "tiles_unreadable": self.n_unreadable,
        }
        return EncodedSlide(
            self.request, bags, self.layout, attributes, resumed_tiles=self.n_resumed, partial=self.partial
        )


def _readable_bags(
    tiles: dict[int, Tiles], features: dict[int, np.ndarray], is_encoded: dict[int, np.ndarray]
) -> dict[int, SlideFeatures]:
    """Leave out the tiles that could not be read; a fine tile whose parent was left out has parent −1."""
    bags = {}
    for magnification, kept in is_encoded.items():
        parent = tiles[magnification].parent
        if parent is not None:
            parent_kept = is_encoded[magnification // 2]
            new_row = np.where(parent_kept, np.cumsum(parent_kept) - 1, -1).astype(np.int32)
            parent = new_row[parent][kept]
        # Indexing would make a second copy of a large slide.
        kept_features = features[magnification] if kept.all() else features[magnification][kept]
        bags[magnification] = SlideFeatures(kept_features, tiles[magnification].position[kept], parent)
    return bags
