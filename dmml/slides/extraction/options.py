"""Options of an extraction, and the store that it writes to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmml.cohort.magnifications import DEFAULT_MAGNIFICATIONS
from dmml.errors import InputError
from dmml.slides.encoders.default_encoder import NAME as DEFAULT_ENCODER
from dmml.slides.reading.storage_watch import DEFAULT_WAIT_MIN
from dmml.slides.tiling.grid import (
    DEFAULT_TILE_PX,
    DEFAULT_TISSUE,
    MIN_TISSUE,
    check_magnifications,
    check_tile_px,
)
from dmml.slides.wsi.mpp import check_mpp, pixel_um
from dmml.store.encoder_identity import STAINS

if TYPE_CHECKING:
    from dmml.slides.encoders.encoder import Encoder
    from dmml.slides.stains.stains import StainNormalization
    from dmml.store import FeatureStore


@dataclass(frozen=True)
class ExtractionOptions:
    """How slides are extracted; `dmml.slides.extraction.extract.extract` describes the fields."""

    encoder: str | Encoder = DEFAULT_ENCODER
    weights: str | Path | None = None
    magnifications: Sequence[int] = DEFAULT_MAGNIFICATIONS
    mpp: float | None = None
    manifest: str | Path | None = None
    batch_size: int | None = None
    precision: str = "32"
    compiled: bool = False
    backend: str = "auto"
    min_tissue: float = MIN_TISSUE
    tissue: str = DEFAULT_TISSUE
    readers: int | None = 0
    shard: str | None = None
    strict: bool = False
    overwrite: bool = False
    dry_run: bool = False
    stain_normalization: str | None = None
    stain_target: str | Path | None = None
    roi: str | Path | None = None
    storage_wait: float = DEFAULT_WAIT_MIN
    staging: str | Path | None = None
    staging_gib: float | None = None
    tile_px: int | None = None

    def check(self) -> tuple[int, ...]:
        """Check the options and return the magnifications from coarse to fine.

        Raises:
            InputError: An option has an impossible value; the message names it.
        """
        from dmml.slides.encoders.backend_choice import check_backend
        from dmml.slides.encoders.build import check_weights
        from dmml.slides.encoders.torch_encoder import check_precision
        from dmml.slides.geojson.roi import check_roi

        if self.mpp is not None:
            check_mpp(self.mpp)
        if self.batch_size is not None and self.batch_size < 1:
            raise InputError(f"--batch-size {self.batch_size}: must be at least 1")
        if not 0 < self.min_tissue <= 1:
            raise InputError(f"--min-tissue {self.min_tissue}: must be above 0 and at most 1")
        if self.readers is not None and self.readers < 0:
            raise InputError(f"--readers {self.readers}: must be at least 0")
        if not 0 <= self.storage_wait < math.inf:
            raise InputError(f"--storage-wait {self.storage_wait}: give minutes, 0 or more")
        if self.staging_gib is not None and not 0 < self.staging_gib < math.inf:
            raise InputError(f"--staging-gib {self.staging_gib}: must be above 0")
        if self.tissue != DEFAULT_TISSUE:
            from dmml.slides.tiling.tissue import tissue_function

            tissue_function(self.tissue)
        check_roi(self.roi)
        check_tile_px(self.side_px)
        check_precision(self.precision)
        check_backend(self.backend, self.precision, self.compiled)
        if isinstance(self.encoder, str):
            check_weights(self.encoder, self.weights, self.backend)
        elif self.encoder.tile_px != self.side_px:
            raise InputError(
                f"tile_px {self.side_px}: the encoder was loaded for tiles of {self.encoder.tile_px} px; load it with "
                f"tile_px={self.side_px}, or leave tile_px out"
            )
        return check_magnifications(self.magnifications)

    @property
    def side_px(self) -> int:
        """Side of a tile in pixels of its magnification: as stated, else that of a loaded encoder, else 224."""
        of_encoder = DEFAULT_TILE_PX if isinstance(self.encoder, str) else self.encoder.tile_px
        return of_encoder if self.tile_px is None else self.tile_px

    @property
    def encoder_name(self) -> str:
        """Name of the encoder in the store."""
        return self.encoder if isinstance(self.encoder, str) else self.encoder.name

    @property
    def recorded(self) -> dict[str, Any]:
        """Options that the store keeps: all that affect its contents, except for the encoder, the magnifications and the tile size."""
        precision = self.precision
        if not isinstance(self.encoder, str) and precision == "32":
            precision = self.encoder.precision  # a caller's encoder decides
        # Stores keep the share under the name that it had when the format was fixed. The attributes of each slide name
        # its regions of interest.
        roi = {} if self.roi is None else {"roi": "regions of each slide"}
        return {"tissue": self.tissue, "least_tissue": self.min_tissue, "precision": precision, **roi}


def open_for_writing(
    out: str,
    encoder: Encoder,
    magnifications: tuple[int, ...],
    options: ExtractionOptions,
    stain_normalization: StainNormalization | None = None,
) -> FeatureStore:
    """Open the store at `out`, or create it if it does not exist.

    Raises:
        InputError: The store was made with another encoder, tile size or stain normalisation, or with other options.
    """
    from dmml.store import FeatureStore

    scales = {m: pixel_um(m) for m in magnifications}
    stains = {} if stain_normalization is None else {STAINS: stain_normalization.identity}
    return FeatureStore.create(
        out, {**encoder.identity, **stains}, scales, options.side_px, options.recorded, encoder_backend=encoder.backend
    )
