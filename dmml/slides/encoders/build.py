"""Tile encoders: timm and hub models, torchvision's ResNet-50, and pathology models by name, with any local weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dmml.errors import InputError, reason_of
from dmml.slides.encoders import default_encoder
from dmml.slides.encoders.recipes import Recipe, check_encoder_name, recipe_for
from dmml.slides.encoders.weights import fitting_tensors, read_tensors, tensor_hash

if TYPE_CHECKING:
    import torch

DEFAULT = default_encoder.NAME
PRECISIONS = {"32": None, "bf16": "bfloat16", "16": "float16"}
"""Precision → type in which matrix products and convolutions run; the output is always float32"""
_TILE_PX = 224
_MAX_BATCH = 512


class Encoder:
    """A frozen network that maps tiles to features.

    Every call of the network has `batch_size` tiles, and blanks fill up the last one. Libraries choose their
    multiplication algorithm by the size, so a feature is independent of the other tiles only if the size is constant.

    Args:
        name: Name of the encoder in a store.
        model: Network from (n, 3, size, size) to (n, D).
        preprocessing: `mean` and `std` of each channel for pixels in 0–1, and `size` in px.
        device: Device on which it runs; None means CUDA if available.
        precision: `32`, `bf16` or `16`.
        compiled: Whether to run it through `torch.compile`.

    Attributes:
        name: As given.
        dim: D.
        weights: SHA-256 of the tensors, which does not depend on the file that they came from.
        preprocessing: As given.
        batch_size: Tiles per call of the network; halved when memory does not suffice.
    """

    def __init__(
        self,
        name: str,
        model: torch.nn.Module,
        preprocessing: Mapping[str, Any],
        device: str | torch.device | None = None,
        precision: str = "32",
        compiled: bool = False,
    ):
        import torch

        self.name = name
        self.preprocessing = {key: preprocessing[key] for key in ("mean", "std", "size")}
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.precision = check_precision(precision)
        self.weights = tensor_hash(model.state_dict())
        # Convolutions on channels-last tensors are 1.3 to 3 times faster on CPUs, and no slower on GPUs.
        model = model.eval().requires_grad_(False).to(self.device).to(memory_format=torch.channels_last)
        self._model: Callable[[torch.Tensor], torch.Tensor] = model
        # A batch that exceeds the caches is slower on a CPU: 26 tiles/s at 8 tiles, 19 at 32, on one core.
        self.batch_size = 8 * torch.get_num_threads() if self.device.type == "cpu" else 128
        mean, std = (torch.tensor(self.preprocessing[key], dtype=torch.float32) for key in ("mean", "std"))
        self._scale = (1 / (255 * std)).view(1, 3, 1, 1).to(self.device)
        self._shift = (-mean / std).view(1, 3, 1, 1).to(self.device)
        probe = self._forward(np.zeros((1, _TILE_PX, _TILE_PX, 3), np.uint8))
        if probe.ndim != 2:
            raise InputError(
                f"--encoder {name}: gives {tuple(probe.shape[1:])} for a tile; one vector per tile is needed"
            )
        self.dim = probe.shape[1]
        if compiled:
            self._model = torch.compile(model)

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

    def start(self, tiles: np.ndarray) -> list[torch.Tensor]:
        """Begin to encode a copy of the tiles; a GPU works on while the caller continues. See `__call__`."""
        if tiles.ndim != 4 or tiles.shape[-1] != 3 or tiles.dtype != np.uint8:
            raise ValueError(f"tiles must be (n, H, W, 3) uint8, not {tiles.shape} {tiles.dtype}")
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

    def finish(self, started: list[torch.Tensor]) -> np.ndarray:
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
        self.finish(self.start(np.zeros((self.batch_size, _TILE_PX, _TILE_PX, 3), np.uint8)))
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
            # An (n, H, W, 3) array seen as (n, 3, H, W) already has the channels-last memory layout.
            x = torch.tensor(np.ascontiguousarray(tiles)).to(self.device).permute(0, 3, 1, 2)
            x = x.to(torch.float32).mul_(self._scale).add_(self._shift)
            size = int(self.preprocessing["size"])
            if x.shape[-2:] != (size, size):
                x = torch.nn.functional.interpolate(x, (size, size), mode="bicubic", antialias=True)
            return self._model(x.contiguous(memory_format=torch.channels_last)).float()


def _is_out_of_memory(error: RuntimeError) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def load_encoder(
    name: str = DEFAULT,
    weights: str | Path | None = None,
    device: str | torch.device | None = None,
    precision: str = "32",
    compiled: bool = False,
) -> Encoder:
    """Load an encoder.

    Args:
        name: A name of `dmml.slides.encoders.recipes`, a timm model (`resnet50.a1_in1k`), a hub name
            (`hf-hub:owner/model`), or the default.
        weights: Local file of tensors (safetensors, or a PyTorch state dict). If None, the default encoder uses its
            installed package, and any other encoder downloads its weights, which is the only use of a network here.
        device: Device on which it runs.
        precision: `32`, `bf16` or `16`.
        compiled: Whether to run it through `torch.compile`.

    Raises:
        InputError: The name is unknown, or the weights cannot be obtained or do not fit.
    """
    check_weights(name, weights)
    check_precision(precision)
    recipe = recipe_for(name) or Recipe(name)
    packaged = weights is None and name == DEFAULT
    try:
        model, preprocessing = recipe.build(pretrained=weights is None and not packaged)
    except Exception as error:
        reason = reason_of(error)[:200]
        raise InputError(f"--encoder {name}: cannot be built ({reason}); {recipe.way_out}") from error
    if weights is not None or packaged:
        path = Path(weights) if weights is not None else default_encoder.packaged_weights()
        model.load_state_dict(fitting_tensors(read_tensors(path), model.state_dict(), path))
    return Encoder(name, model, preprocessing, device, precision, compiled)


def check_weights(name: str, weights: str | Path | None) -> None:
    """Check, without importing torch, that the weights exist.

    Raises:
        InputError: The name is a misspelt short name, the file does not exist, or the default encoder's package is not
            installed.
    """
    check_encoder_name(name)
    if weights is not None and not Path(weights).is_file():
        raise InputError(f"--weights {weights}: no such file")
    if weights is None and name == DEFAULT:
        default_encoder.packaged_weights()


def check_precision(precision: str) -> str:
    """Check that the precision is a supported one, and return it.

    Raises:
        InputError: It is neither 32, bf16 nor 16.
    """
    if precision not in PRECISIONS:
        raise InputError(f"--precision {precision}: give one of {', '.join(PRECISIONS)}")
    return precision
