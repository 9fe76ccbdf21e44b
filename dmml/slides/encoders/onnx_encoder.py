"""Encoders that ONNX Runtime runs on CPUs, from an exported graph; neither torch nor timm is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import numpy as np

from dmml.slides.encoders.encoder import (
    ONNXRUNTIME,
    TILES_PER_THREAD,
    Encoder,
    check_tiles,
    chosen_preprocessing,
    cpu_threads,
)
from dmml.slides.tiling.grid import DEFAULT_TILE_PX

INPUT, OUTPUT = "tiles", "features"
"""Names in a graph of the pixels (n, tile_px, tile_px, 3) uint8 and of the features (n, D) float32"""


class OnnxEncoder(Encoder):
    """An encoder that ONNX Runtime runs.

    Every tile is a call of its own, on one thread, and as many calls run at the same time as there are threads. This is
    faster than batches, whose activations exceed the caches, and than several threads within a call, which wait for
    each other after every layer. A tile's features depend neither on other tiles, nor on the batch size, nor on the
    number of threads, to the last bit.

    Args:
        identity: `name`, `weights`, `dim` and `preprocessing` of the encoder.
        graph: ONNX model that includes the preprocessing, for tiles of one size.
        threads: Number of tiles encoded at the same time; None means as many threads as PyTorch would use.
        tile_px: Side of the tiles that the graph takes, px.
    """

    backend = ONNXRUNTIME
    precision = "32"

    def __init__(
        self,
        identity: Mapping[str, Any],
        graph: bytes,
        threads: int | None = None,
        tile_px: int = DEFAULT_TILE_PX,
    ):
        import onnxruntime

        self.name, self.weights, self.dim = identity["name"], identity["weights"], int(identity["dim"])
        self.preprocessing = chosen_preprocessing(identity["preprocessing"])
        self.tile_px = tile_px
        self.threads = threads or cpu_threads()
        self.batch_size = TILES_PER_THREAD * self.threads
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._threads = ThreadPoolExecutor(self.threads, thread_name_prefix="encoder")

    def start(self, tiles: np.ndarray) -> list[Future[np.ndarray]]:
        """Begin to encode a copy of the tiles while the caller continues. See `Encoder.__call__`."""
        check_tiles(tiles)
        if tiles.shape[1:3] != (self.tile_px, self.tile_px):
            raise ValueError(
                f"tiles must have {self.tile_px} × {self.tile_px} px, not {tiles.shape[1]} × {tiles.shape[2]}"
            )
        copied = tiles.copy()
        return [self._threads.submit(self._encode, copied[i : i + 1]) for i in range(len(copied))]

    def finish(self, started: Sequence[Future[np.ndarray]]) -> np.ndarray:
        """Return the features (n, D) float32 of tiles that `start` began to encode."""
        if not started:
            return np.zeros((0, self.dim), np.float32)
        return np.concatenate([future.result() for future in started])

    def _encode(self, tile: np.ndarray) -> np.ndarray:
        features: np.ndarray = self._session.run([OUTPUT], {INPUT: tile})[0]  # (1, D)
        return features


def is_installed() -> bool:
    """Whether ONNX Runtime is installed."""
    return find_spec("onnxruntime") is not None
