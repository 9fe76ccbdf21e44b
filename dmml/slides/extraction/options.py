"""Options and outcome of an extraction, and the store that it writes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmml.errors import InputError
from dmml.slides.extraction.failures import Failure
from dmml.slides.extraction.shards import Shard
from dmml.slides.tiling.grid import DEFAULT_TISSUE, LEAST_TISSUE, TILE_PX, check_magnifications, pixel_um
from dmml.slides.wsi.mpp import check_given

if TYPE_CHECKING:
    from dmml.slides.encoders.build import Encoder
    from dmml.slides.extraction.estimate import Estimate
    from dmml.store import FeatureStore


@dataclass
class Extraction:
    """The outcome of a run."""

    written: list[str] = field(default_factory=list)
    """Slides that this run wrote"""
    changed: list[str] = field(default_factory=list)
    """Slides that the store already held, but whose file has changed since"""
    passed_over: list[str] = field(default_factory=list)
    """Slides that were skipped because the store already held them"""
    elsewhere: list[str] = field(default_factory=list)
    """Slides that another process is working on"""
    failures: list[Failure] = field(default_factory=list)
    ignored: list[Path] = field(default_factory=list)
    unscaled: list[Path] = field(default_factory=list)
    """Plain images in folders that were skipped because nothing states their µm per pixel"""
    missing: list[str] = field(default_factory=list)
    """Names in the manifest without a matching file"""
    warnings: list[str] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)
    """{slide that was written: which page of its file was read, which levels were ignored}"""
    shard: Shard | None = None
    tiles: int = 0
    """Number of tiles of the slides that were written"""
    known: int = 0
    """How many of these tiles an earlier, interrupted run had already encoded"""
    seconds: float = 0.0
    qc: str = ""
    """Path of the QC page that was written"""
    qc_file: str = ""
    """Path to which the QC page is to be written"""
    failures_file: str = ""
    estimate: Estimate | None = None
    """Result of a dry run, which writes nothing"""


@dataclass(frozen=True)
class Options:
    """How slides are extracted; `dmml.slides.extraction.extract.extract` describes the fields."""

    encoder: str | Encoder | None = None
    weights: str | Path | None = None
    magnifications: Sequence[int] = (10, 20)
    mpp: float | None = None
    manifest: str | Path | None = None
    batch_size: int | None = None
    precision: str = "32"
    compiled: bool = False
    least_tissue: float = LEAST_TISSUE
    tissue: str = DEFAULT_TISSUE
    readers: int = 0
    shard: str | None = None
    strict: bool = False
    overwrite: bool = False
    dry_run: bool = False

    def check(self) -> tuple[int, ...]:
        """Check the options and return the magnifications from coarse to fine.

        Raises:
            InputError: An option has an impossible value; the message names it.
        """
        from dmml.slides.encoders.build import DEFAULT, check_precision, check_weights

        if self.mpp is not None:
            check_given(self.mpp)
        if self.batch_size is not None and self.batch_size < 1:
            raise InputError(f"--batch-size {self.batch_size}: must be at least 1")
        if not 0 < self.least_tissue <= 1:
            raise InputError(f"--least-tissue {self.least_tissue}: must be above 0 and at most 1")
        if self.readers < 0:
            raise InputError(f"--readers {self.readers}: must be at least 0")
        if self.tissue != DEFAULT_TISSUE:
            from dmml.slides.tiling.tissue import tissue_function

            tissue_function(self.tissue)
        check_precision(self.precision)
        if not self.encoder or isinstance(self.encoder, str):
            check_weights(self.encoder or DEFAULT, self.weights)
        return check_magnifications(self.magnifications)

    @property
    def recorded(self) -> dict[str, Any]:
        """Options that the store keeps: all that affect its contents, except for the encoder and the magnifications."""
        own = None if isinstance(self.encoder, str | None) else self.encoder.precision
        precision = own if own and self.precision == "32" else self.precision  # a caller's encoder decides
        return {"tissue": self.tissue, "least_tissue": self.least_tissue, "precision": precision}


def open_for_writing(out: str, encoder: Encoder, magnifications: tuple[int, ...], chosen: Options) -> FeatureStore:
    """Open the store at `out`, or create it if it does not exist.

    Raises:
        InputError: The store was made with another encoder or other options.
    """
    from dmml.store import FeatureStore

    scales = {m: pixel_um(m) for m in magnifications}
    return FeatureStore.create(out, encoder.identity, scales, TILE_PX, chosen.recorded)
