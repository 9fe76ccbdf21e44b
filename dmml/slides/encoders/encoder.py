"""The interface of tile encoders, whatever library runs the network."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dmml.slides.tiling.grid import DEFAULT_TILE_PX
from dmml.usable_cores import usable_cores

TORCH, ONNXRUNTIME = "torch", "onnxruntime"
TILES_PER_THREAD = 8
"""Tiles per batch and thread on a CPU; a batch that exceeds the caches is slower: 26 tiles/s at 8 tiles, 19 at 32"""


class Encoder(ABC):
    """A frozen network that maps tiles to features; a feature does not depend on the tiles encoded with it.

    Attributes:
        name: Name of the encoder in a store.
        dim: Number D of features.
        weights: SHA-256 of the network's tensors, which does not depend on the file that they came from.
        preprocessing: `mean` and `std` of each channel for pixels in 0–1, and `size` of the network's input in px.
        backend: Library that runs the network: `torch` or `onnxruntime`.
        precision: `32`, `bf16` or `16`.
        batch_size: Tiles that are best given to it at a time.
        tile_px: Side of the tiles that it is given. Tiles of another size than `preprocessing["size"]` are resized to it.
    """

    name: str
    dim: int
    weights: str
    preprocessing: dict[str, Any]
    backend: str
    precision: str
    batch_size: int
    tile_px: int = DEFAULT_TILE_PX

    @property
    def identity(self) -> dict[str, Any]:
        """What a store records of its encoder: `name`, `weights`, `dim`, `preprocessing`."""
        return {"name": self.name, "weights": self.weights, "dim": self.dim, "preprocessing": self.preprocessing}

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        """Encode tiles.

        Args:
            tiles: (n, H, W, 3) uint8.

        Returns:
            (n, D) float32.
        """
        return self.finish(self.start(tiles))

    @abstractmethod
    def start(self, tiles: np.ndarray) -> Sequence[Any]:
        """Begin to encode a copy of the tiles while the caller continues. See `__call__`."""

    @abstractmethod
    def finish(self, started: Sequence[Any]) -> np.ndarray:
        """Return the features (n, D) float32 of tiles that `start` began to encode."""

    def find_batch_size(self) -> int:
        """Choose `batch_size` for the device at hand, and return it."""
        return self.batch_size


def chosen_preprocessing(preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a preprocessing that an encoder's identity has."""
    return {key: preprocessing[key] for key in ("mean", "std", "size")}


def check_tiles(tiles: np.ndarray) -> None:
    """Check the shape and the type of tiles.

    Raises:
        ValueError: They are not (n, H, W, 3) uint8.
    """
    if tiles.ndim != 4 or tiles.shape[-1] != 3 or tiles.dtype != np.uint8:
        raise ValueError(f"tiles must be (n, H, W, 3) uint8, not {tiles.shape} {tiles.dtype}")


def cuda_is_available() -> bool:
    """Whether PyTorch can use a GPU; torch is imported only where there is any sign of one."""
    devices = ("/proc/driver/nvidia", "/dev/kfd", "/dev/dxg")
    if "torch" not in sys.modules and sys.platform == "linux" and not any(map(os.path.exists, devices)):
        return False
    import torch

    return torch.cuda.is_available()


def cpu_threads() -> int:
    """Return the number of threads that encode on a CPU: torch's, which `OMP_NUM_THREADS` sets, without importing it."""
    if "torch" in sys.modules:
        import torch

        return torch.get_num_threads()
    stated = os.environ.get("OMP_NUM_THREADS", "")
    if stated.isdecimal() and int(stated):
        return int(stated)
    return usable_cores()
