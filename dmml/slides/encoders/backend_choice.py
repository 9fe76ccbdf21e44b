"""Chooses the library that runs an encoder: the one that the user names, or the fastest that agrees with PyTorch."""

from __future__ import annotations

import functools
import logging
import os
import platform
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dmml.errors import InputError, reason_of
from dmml.slides.encoders.agreement import probe_tiles
from dmml.slides.encoders.encoder import ONNXRUNTIME, TORCH, Encoder
from dmml.slides.encoders.graph_cache import GraphCache, GraphRecord
from dmml.slides.encoders.onnx_encoder import OnnxEncoder, is_installed
from dmml.slides.tiling.grid import DEFAULT_TILE_PX

if TYPE_CHECKING:
    from dmml.slides.encoders.torch_encoder import TorchEncoder

AUTO = "auto"
BACKENDS = (AUTO, TORCH, ONNXRUNTIME)
_TURNS = 3
"""Number of batches on which each candidate is timed; the fastest counts, because other processes only slow one down"""
_LOG = logging.getLogger(__name__)


def check_backend(backend: str, precision: str = "32", compiled: bool = False) -> str:
    """Check that a backend exists and does what other options demand, without importing it, and return it.

    Raises:
        InputError: It is unknown, not installed, or cannot do it.
    """
    if backend not in BACKENDS:
        raise InputError(f"--backend {backend}: give one of {', '.join(BACKENDS)}")
    if backend == ONNXRUNTIME and (precision != "32" or compiled):
        option = f"--precision {precision}" if precision != "32" else "--compile"
        raise InputError(f"--backend {ONNXRUNTIME}: works without {option} only; leave one of them out")
    if backend == ONNXRUNTIME and not is_installed():
        raise InputError(f"--backend {ONNXRUNTIME}: is not installed: `pip install onnxruntime onnx onnxscript`")
    return backend


def choose_backend(encoder: TorchEncoder, backend: str = AUTO) -> Encoder:
    """Return an encoder in the backend that the user names, or in the fastest one that agrees with PyTorch.

    Args:
        encoder: The encoder in PyTorch.
        backend: One of `BACKENDS`.

    Raises:
        InputError: The user named ONNX Runtime, and it cannot run this encoder.
    """
    on_cpu = encoder.device.type == "cpu" and encoder.precision == "32" and not encoder.compiled
    if backend == TORCH or (backend == AUTO and not (on_cpu and is_installed())):
        return encoder
    try:
        cache = GraphCache()
        with cache.locked(encoder.identity, encoder.tile_px):
            return _select(encoder, backend, cache)
    except (InputError, OSError) as error:
        reason = str(error) if isinstance(error, InputError) else f"the graph cannot be kept ({reason_of(error)})"
        if backend == ONNXRUNTIME:
            raise InputError(f"--backend {ONNXRUNTIME}: {reason}") from error
        _LOG.warning("%s runs on %s, which may be slower than %s: %s", encoder.name, TORCH, ONNXRUNTIME, reason)
        return encoder


def cached_encoder(
    identity: Mapping[str, Any],
    backend: str = AUTO,
    log_level: int = logging.DEBUG,
    tile_px: int = DEFAULT_TILE_PX,
) -> Encoder | None:
    """Return an encoder from its exported graph, without torch, timm and weights; None if that is not possible.

    Args:
        identity: `name`, `weights`, `dim` and `preprocessing` of the encoder.
        backend: `auto` uses the graph only if it was the fastest on a processor such as this one.
        log_level: Level of the line that names the backend and its speed.
        tile_px: Side of the tiles that it is given, px.
    """
    if backend == TORCH or not is_installed():
        return None
    try:
        cache = GraphCache()
    except InputError:
        return None  # whoever then builds the network reports it
    record = cache.record(identity, tile_px)
    if record is None or record.problem or (backend == AUTO and _fastest(record) != ONNXRUNTIME):
        return None
    encoder = _from_graph(record, cache)
    if encoder is not None:
        _LOG.log(log_level, "%s", _line(record, ONNXRUNTIME))
    return encoder


def _select(encoder: TorchEncoder, backend: str, cache: GraphCache) -> Encoder:
    from dmml.slides.encoders.graph_export import export_graph

    record = cache.record(encoder.identity, encoder.tile_px)
    if record is not None and record.problem and _machine() not in record.choices:
        record = None  # other versions of the libraries may be able to export it
    onnx_encoder = None
    for _ in range(2):  # a damaged graph, or one that this version of the library cannot read, is made again
        if record is None:
            record = export_graph(encoder, cache)
            if record.problem:
                record.choices[_machine()] = {}
                cache.write(record)
        if record.problem:
            break
        onnx_encoder = _from_graph(record, cache)
        if onnx_encoder is not None:
            break
        record = None
    if record is None or onnx_encoder is None:
        raise InputError(record.problem if record else f"the graph of {encoder.name} cannot be loaded")
    if backend == ONNXRUNTIME:
        result: Encoder = onnx_encoder
    else:
        if _fastest(record) is None:
            record.choices[_machine()] = tiles_per_second([encoder, onnx_encoder])
            cache.write(record)
        result = onnx_encoder if _fastest(record) == ONNXRUNTIME else encoder
    _LOG.info("%s", _line(record, result.backend))
    return result


def _from_graph(record: GraphRecord, cache: GraphCache) -> OnnxEncoder | None:
    """Load the graph of a record; None if it is missing, damaged, or of no use to the installed library."""
    graph = cache.graph(record)
    if graph is None:
        return None
    try:
        return OnnxEncoder(record.identity, graph, tile_px=record.tile_px)
    except Exception as error:  # the library's exceptions have no public base class
        _LOG.warning("%s: its graph cannot be loaded (%s)", record.identity["name"], reason_of(error)[:160])
        return None


def tiles_per_second(encoders: list[Encoder]) -> dict[str, float]:
    """Time encoders in turn on a few batches of probe tiles: {backend: tiles per second}."""
    seconds: dict[str, float] = {}
    for turn in range(_TURNS + 1):
        for encoder in encoders:
            probes = probe_tiles(encoder.tile_px)
            tiles = np.resize(probes, (encoder.batch_size, *probes.shape[1:]))
            start = time.perf_counter()
            encoder(tiles)
            if turn:  # the first call allocates memory and chooses algorithms
                elapsed = (time.perf_counter() - start) / len(tiles)
                seconds[encoder.backend] = min(elapsed, seconds.get(encoder.backend, elapsed))
    return {backend: 1 / elapsed for backend, elapsed in seconds.items()}


def _fastest(record: GraphRecord) -> str | None:
    """The backend that was the fastest on a processor such as this one; None if that was not measured."""
    speeds = record.choices.get(_machine())
    return max(speeds, key=lambda backend: speeds[backend]) if speeds else None


def _line(record: GraphRecord, backend: str) -> str:
    """Say in one line which backend runs an encoder, how fast the candidates were, and how well they agree."""
    speeds = record.choices.get(_machine()) or {}
    rates = ", ".join(f"{name} {rate:.3g}" for name, rate in sorted(speeds.items()))
    measured = f" (tiles per second: {rates})" if rates else ""
    agreement = f"; agreement with {TORCH}: {record.agreement}" if backend != TORCH else ""
    return f"{record.identity['name']} runs on {backend}{measured}{agreement}"


@functools.cache
def _machine() -> str:
    """Describe what a comparison of speeds depends on: the processor, and the versions of the libraries."""
    processor = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    versions = [f"{package} {package_version(package)}" for package in (TORCH, ONNXRUNTIME)]
    return ", ".join([processor, f"{os.cpu_count()} cores", *versions])


def package_version(package: str) -> str:
    """Return the version of an installed package without importing it; `none` if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
