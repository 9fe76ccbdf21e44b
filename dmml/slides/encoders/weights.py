"""Weights of encoders: read from local files without unpickling, matched to a model by name, and hashed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dmml.errors import InputError, reason_of
from dmml.slides.encoders import default_encoder

if TYPE_CHECKING:
    import torch

_CONTAINERS = ("state_dict", "model_state_dict", "model", "teacher", "student", "encoder")


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a safetensors file or of a PyTorch file, of which nothing but tensors is unpickled.

    Raises:
        InputError: It is not such a file.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        import torch

        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = reason_of(error)[:160]
        raise InputError(
            f"{path}: is neither a safetensors file nor a plain state dict ({reason}); save the tensors alone"
        ) from error
    for key in _CONTAINERS:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping):
        raise InputError(f"{path}: holds a {type(state).__name__} instead of a state dict; save `model.state_dict()`")
    return {key: value for key, value in state.items() if hasattr(value, "shape")}


def fitting_tensors(
    state: Mapping[str, torch.Tensor], reference: Mapping[str, torch.Tensor], path: Path
) -> dict[str, torch.Tensor]:
    """Pick the tensors that a model needs, under the model's names; a common prefix such as `module.` is stripped.

    Args:
        state: Tensors of the file; those that the model does not need (a classifier, a second network) are left out.
        reference: `state_dict()` of the model.
        path: The file, for messages.

    Raises:
        InputError: A tensor is missing or has another shape.
    """
    if default_encoder.is_foreign(state):
        return default_encoder.rename(state, reference)
    endings = Counter(key[: -len(name)] for key in state for name in (key, *_suffixes(key)) if name in reference)
    prefix = endings.most_common(1)[0][0] if endings else ""
    missing = [name for name in reference if prefix + name not in state]
    if missing:
        raise InputError(
            f"{path}: does not fit the encoder: {len(missing)} of {len(reference)} tensors are missing, e.g. {missing[0]}; check --encoder"
        )
    for name, tensor in reference.items():
        if state[prefix + name].shape != tensor.shape:
            raise InputError(
                f"{path}: {name} has shape {tuple(state[prefix + name].shape)}, the encoder needs {tuple(tensor.shape)}; check --encoder"
            )
    return {name: state[prefix + name] for name in reference}


def tensor_hash(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over the names, types, shapes and bytes of tensors, in the order of their names."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def _suffixes(key: str) -> list[str]:
    parts = key.split(".")
    return [".".join(parts[i:]) for i in range(1, len(parts))]
