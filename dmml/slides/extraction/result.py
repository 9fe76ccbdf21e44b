"""The outcome of an extraction."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dmml.slides.discovery.shards import Shard
from dmml.slides.failures import Failure

if TYPE_CHECKING:
    from dmml.slides.extraction.estimate import Estimate


@dataclass
class ExtractionResult:
    """The outcome of a run."""

    written: list[str] = field(default_factory=list)
    """Slides that this run wrote"""
    changed: list[str] = field(default_factory=list)
    """Slides that the store already held, but whose file has changed since"""
    skipped: list[str] = field(default_factory=list)
    """Slides that were skipped because the store already held them"""
    locked: list[str] = field(default_factory=list)
    """Slides that another process is working on"""
    failures: list[Failure] = field(default_factory=list)
    ignored: list[Path] = field(default_factory=list)
    """Files in folders that are not slides"""
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
    resumed_tiles: int = 0
    """How many of these tiles an earlier, interrupted run had already encoded"""
    seconds: float = 0.0
    qc: str = ""
    """Path of the QC page that was written"""
    qc_file: str = ""
    """Path to which the QC page is to be written"""
    failures_file: str = ""
    estimate: Estimate | None = None
    """Result of a dry run, which writes nothing"""
