"""Encoders of the user's own: a class of networks in a file of their folder, named as `module:Class`.

The class is called without arguments and gives one vector per tile: (n, 3, size, size) → (n, D). Its attribute
`preprocessing` states `mean` and `std` of each channel, for pixels in 0–1, and `size`, the side of its input in px;
without it, these are ImageNet's and 224. It loads its weights itself, or takes those of `--weights`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dmml.class_paths import import_named
from dmml.errors import InputError
from dmml.slides.encoders.encoder import ONNXRUNTIME
from dmml.slides.encoders.recipes import IMAGENET

if TYPE_CHECKING:
    import torch

_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
"""timm's names have no colon, and those of hubs a slash behind it"""
_DEFAULT = {"mean": list(IMAGENET[0]), "std": list(IMAGENET[1]), "size": 224}


def is_user_encoder(name: str) -> bool:
    """Whether the name of an encoder is `module:Class`."""
    return _NAME.fullmatch(name) is not None


def check_user_encoder(name: str, backend: str) -> None:
    """Check that a class can be imported and is one of networks; this imports torch.

    Args:
        name: `module:Class`.
        backend: Backend that the user names.

    Raises:
        InputError: It is not such a class, it has no complete preprocessing, or the backend cannot run it.
    """
    if backend == ONNXRUNTIME:
        # An exported graph is found again by name and weights, which stay the same when the code of the class changes.
        raise InputError(f"--backend {ONNXRUNTIME}: an encoder of your own runs on torch; leave the option out")
    network = _network_class(name)
    preprocessing = getattr(network, "preprocessing", _DEFAULT)
    if not isinstance(preprocessing, Mapping) or not _DEFAULT.keys() <= preprocessing.keys():
        raise InputError(f"--encoder {name}: its attribute `preprocessing` must name {', '.join(_DEFAULT)}")


def _network_class(name: str) -> type[torch.nn.Module]:
    imported = import_named("--encoder", name, "class")
    import torch

    if not (isinstance(imported, type) and issubclass(imported, torch.nn.Module)):
        raise InputError(f"--encoder {name}: is not derived from torch.nn.Module; derive the class from it")
    return imported


@dataclass(frozen=True)
class UserEncoder:
    """Builds a user's network, as a `Recipe` builds one of dmml's.

    Attributes:
        name: `module:Class`.
    """

    name: str
    way_out = "correct the class, which is called without arguments"

    def build(self, pretrained: bool) -> tuple[torch.nn.Module, dict[str, Any]]:
        """Build the network, whatever `pretrained` is, and return it with its preprocessing."""
        network = _network_class(self.name)()
        stated = getattr(network, "preprocessing", _DEFAULT)
        # Plain lists and numbers, because a store keeps them as JSON and compares them when it is continued.
        channels = {key: [float(value) for value in stated[key]] for key in ("mean", "std")}
        return network, {**channels, "size": int(stated["size"])}
