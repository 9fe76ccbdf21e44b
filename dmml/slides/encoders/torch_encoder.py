"""Encoders that PyTorch runs, on a GPU or on CPUs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dmml.errors import InputError
from dmml.slides.encoders.encoder import TILES_PER_THREAD, TORCH, Encoder, check_tiles, chosen_preprocessing
from dmml.slides.encoders.weights import tensor_hash
from dmml.slides.tiling.grid import DEFAULT_TILE_PX

if TYPE_CHECKING:
    import torch

PRECISIONS = {"32": None, "bf16": "bfloat16", "16": "float16"}
"""Precision → type in which matrix products and convolutions run; the output is always float32"""
_MAX_BATCH = 512


class TorchEncoder(Encoder):
    """An encoder that PyTorch runs.

    Every call of the network has `batch_size` tiles, and blanks fill up the last one. Libraries choose their
    multiplication algorithm by the size, so a feature is independent of the other tiles only if the size is constant.

    Args:
        name: Name of the encoder in a store.
        model: Network from (n, 3, size, size) to (n, D).
        preprocessing: `mean` and `std` of each channel for pixels in 0–1, and `size` in px.
        device: Device on which it runs; None means CUDA if available.
        precision: `32`, `bf16` or `16`.
        compiled: Whether to run it through `torch.compile`.
        tile_px: Side of the tiles that it is given, px.

    Attributes:
        batch_size: Tiles per call of the network; halved when memory does not suffice.
        model: The network itself, in evaluation mode.
        compiled: As given.
    """

    backend = TORCH

    def __init__(
        self,
        name: str,
        model: torch.nn.Module,
        preprocessing: Mapping[str, Any],
        device: str | torch.device | None = None,
        precision: str = "32",
        compiled: bool = False,
        tile_px: int = DEFAULT_TILE_PX,
    ):
        import torch

        self.name, self.tile_px = name, tile_px
        self.preprocessing = chosen_preprocessing(preprocessing)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.precision = check_precision(precision)
        self.weights = tensor_hash(model.state_dict())
        # Convolutions on channels-last tensors are 1.3 to 3 times faster on CPUs, and no slower on GPUs.
        self.model = model.eval().requires_grad_(False).to(self.device).to(memory_format=torch.channels_last)
        self._network: Callable[[torch.Tensor], torch.Tensor] = self.model
        self.batch_size = TILES_PER_THREAD * torch.get_num_threads() if self.device.type == "cpu" else 128
        self._scale, self._shift = (values.to(self.device) for values in scale_and_shift(self.preprocessing))
        probe = self._forward(np.zeros((1, tile_px, tile_px, 3), np.uint8))
        if probe.ndim != 2:
            raise InputError(
                f"--encoder {name}: gives {tuple(probe.shape[1:])} for a tile; one vector per tile is needed"
            )
        self.dim = probe.shape[1]
        self.compiled = compiled
        if compiled:
            self._network = torch.compile(self.model)

    def start(self, tiles: np.ndarray) -> list[torch.Tensor]:
        """Begin to encode a copy of the tiles; a GPU works on while the caller continues. See `__call__`."""
        check_tiles(tiles)
        parts, done = [], 0
        while done < len(tiles):
            part = tiles[done : done + self.batch_size]
            try:
                parts.append(self._forward(self._padded(part))[: len(part)])
                done += len(part)
            except RuntimeError as error:
                if not _is_out_of_memory(error) or self.batch_size == 1:
                    raise
                self._halve_batch()
        return parts

    def finish(self, started: Sequence[torch.Tensor]) -> np.ndarray:
        """Return the features (n, D) float32 of tiles that `start` began to encode."""
        if not started:
            return np.zeros((0, self.dim), np.float32)
        return np.concatenate([part.cpu().numpy() for part in started])

    def find_batch_size(self) -> int:
        """Find by trial the largest batch, among powers of two, that fits into a GPU's memory; a CPU keeps its size.

        Returns:
            `batch_size`, half of what fits, so that the next batch can be prepared in the meantime.
        """
        if self.device.type == "cpu":
            return self.batch_size
        self.batch_size = 2 * _MAX_BATCH
        self.finish(self.start(np.zeros((self.batch_size, self.tile_px, self.tile_px, 3), np.uint8)))
        self.batch_size = max(1, self.batch_size // 2)
        return self.batch_size

    def _halve_batch(self) -> None:
        import torch

        self.batch_size //= 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _padded(self, tiles: np.ndarray) -> np.ndarray:
        missing = self.batch_size - len(tiles)
        return tiles if not missing else np.concatenate([tiles, np.zeros((missing, *tiles.shape[1:]), np.uint8)])

    def _forward(self, tiles: np.ndarray) -> torch.Tensor:
        import torch

        half = PRECISIONS[self.precision]
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, getattr(torch, half or "bfloat16"), enabled=half is not None),
        ):
            pixels = torch.tensor(np.ascontiguousarray(tiles)).to(self.device)
            x = network_input(pixels, self._scale, self._shift, int(self.preprocessing["size"]))
            return self._network(x.contiguous(memory_format=torch.channels_last)).float()


def scale_and_shift(preprocessing: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the factor and the summand (1, 3, 1, 1) that normalise pixels in 0–255."""
    import torch

    mean, std = (torch.tensor(preprocessing[key], dtype=torch.float32) for key in ("mean", "std"))
    return (1 / (255 * std)).view(1, 3, 1, 1), (-mean / std).view(1, 3, 1, 1)


def network_input(tiles: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, size: int) -> torch.Tensor:
    """Normalise tiles, and resize them if the network's input has another size.

    Args:
        tiles: (n, H, W, 3) uint8.
        scale: (1, 3, 1, 1) factor of the pixels.
        shift: (1, 3, 1, 1) summand of the pixels.
        size: Side of the network's input in px.

    Returns:
        (n, 3, size, size) float32.
    """
    import torch

    # An (n, H, W, 3) array seen as (n, 3, H, W) already has the channels-last memory layout.
    x = tiles.permute(0, 3, 1, 2).to(torch.float32).mul_(scale).add_(shift)
    if x.shape[-2:] != (size, size):
        x = torch.nn.functional.interpolate(x, (size, size), mode="bicubic", antialias=True)
    return x


def check_precision(precision: str) -> str:
    """Check that the precision is a supported one, and return it.

    Raises:
        InputError: It is neither 32, bf16 nor 16.
    """
    if precision not in PRECISIONS:
        raise InputError(f"--precision {precision}: give one of {', '.join(PRECISIONS)}")
    return precision


def _is_out_of_memory(error: RuntimeError) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
