"""Tile encoders: timm and hub models, torchvision's ResNet-50, pathology models by name, and users' own, with any local weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dmml.errors import InputError, reason_of
from dmml.slides.encoders import default_encoder
from dmml.slides.encoders.backend_choice import AUTO, check_backend, choose_backend
from dmml.slides.encoders.encoder import ONNXRUNTIME, TORCH, Encoder, cuda_is_available
from dmml.slides.encoders.exported_encoder import exported_encoder, record_source
from dmml.slides.encoders.recipes import Recipe, check_encoder_name, recipe_for
from dmml.slides.encoders.torch_encoder import TorchEncoder, check_precision
from dmml.slides.encoders.user_encoder import UserEncoder, check_user_encoder, is_user_encoder
from dmml.slides.encoders.weights import fitting_tensors, read_tensors
from dmml.slides.tiling.grid import DEFAULT_TILE_PX, check_tile_px

if TYPE_CHECKING:
    import torch

DEFAULT = default_encoder.NAME


def load_encoder(
    name: str = DEFAULT,
    weights: str | Path | None = None,
    device: str | torch.device | None = None,
    precision: str = "32",
    compiled: bool = False,
    backend: str = AUTO,
    tile_px: int = DEFAULT_TILE_PX,
) -> Encoder:
    """Load an encoder.

    Args:
        name: A name of `dmml.slides.encoders.recipes`, a timm model (`resnet50.a1_in1k`), a hub name
            (`hf-hub:owner/model`), `module:Class` of the user's own, or the default.
        weights: Local file of tensors (safetensors, or a PyTorch state dict). If None, the default encoder uses its
            installed package, a user's own loads them itself, and any other encoder downloads its weights, which is the
            only use of a network here.
        device: Device on which it runs; None means CUDA if available. ONNX Runtime runs on CPUs only.
        precision: `32`, `bf16` or `16`.
        compiled: Whether to run it through `torch.compile`.
        backend: `torch`, `onnxruntime`, or `auto`, the faster of the two on a CPU; see `choose_backend`.
        tile_px: Side of the tiles that it is given, px. If its own input has another size, tiles are resized to that.

    Raises:
        InputError: The name or the backend is unknown, the tile size is impossible, the weights cannot be obtained or do not fit, or the backend
            cannot run the encoder.
    """
    check_weights(name, weights, backend)
    check_precision(precision)
    check_tile_px(tile_px)
    check_backend(backend, precision, compiled)
    path = Path(weights) if weights is not None else default_encoder.packaged_weights() if name == DEFAULT else None
    on_cpu = backend == ONNXRUNTIME or (str(device) == "cpu" if device else not cuda_is_available())
    is_own = is_user_encoder(name)
    may_be_graph = backend != TORCH and on_cpu and precision == "32" and not compiled and not is_own
    if may_be_graph and path is not None and (exported := exported_encoder(name, path, backend, tile_px)) is not None:
        return exported
    recipe = UserEncoder(name) if is_own else recipe_for(name) or Recipe(name)
    try:
        model, preprocessing = recipe.build(pretrained=path is None)
    except Exception as error:
        reason = reason_of(error)[:200]
        raise InputError(f"--encoder {name}: cannot be built ({reason}); {recipe.way_out}") from error
    if path is not None:
        model.load_state_dict(fitting_tensors(read_tensors(path), model.state_dict(), path))
    if backend == ONNXRUNTIME:
        device = "cpu"
    encoder = TorchEncoder(name, model, preprocessing, device, precision, compiled, tile_px)
    if may_be_graph and path is not None:
        record_source(name, path, encoder.identity)
    return encoder if is_own else choose_backend(encoder, backend)


def check_weights(name: str, weights: str | Path | None, backend: str = AUTO) -> None:
    """Check that the weights exist, without importing torch, which only the file of a user's own encoder does.

    Raises:
        InputError: The name is a misspelt short name, the file does not exist, the default encoder's package is not
            installed, or a user's own encoder cannot be imported.
    """
    check_encoder_name(name)
    if is_user_encoder(name):
        check_user_encoder(name, backend)
    if weights is not None and not Path(weights).is_file():
        raise InputError(f"--weights {weights}: no such file")
    if weights is None and name == DEFAULT:
        default_encoder.packaged_weights()
