"""Starts a model from another model's checkpoint: its gene lists, its task's arguments and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from dmml.errors import InputError
from dmml.networks.packing import unpack

if TYPE_CHECKING:
    from dmml.training.subspace_module import SubspaceModule

_NOT_COPIED = ("backbone.", "deep_share", "program_share")
"""Start of the names of weights that depend on the patients of their fit: the backbone, and the shares that inner
validation chose"""


def take_missing_arguments(module: SubspaceModule, hparams: Mapping[str, Any]) -> None:
    """Copy gene lists, programs and task arguments from another model's checkpoint where a model has none.

    Args:
        module: Teacher or student that is changed in place.
        hparams: Hyper-parameters in the checkpoint of the other model.
    """
    if module.genes is None:
        module.genes, module.programs = unpack(hparams.get("genes")), unpack(hparams.get("programs"))
    arguments = module.task.init_args()
    for name, value in (hparams["task"].get("init_args") or {}).items():
        if arguments.get(name) is None and value is not None:
            setattr(module.task, name, value)


def copy_matching_weights(module: nn.Module, path: str, weights: Mapping[str, Tensor]) -> None:
    """Copy those weights of a checkpoint whose name and shape match a weight of the module.

    Args:
        module: Module whose weights are replaced.
        path: Path of the checkpoint, for the error message.
        weights: {name: tensor} of the checkpoint.

    Raises:
        InputError: No weight matches.
    """
    shapes = {name: value.shape for name, value in module.state_dict().items() if not name.startswith(_NOT_COPIED)}
    matching = {name: value for name, value in weights.items() if shapes.get(name) == value.shape}
    if not matching:
        raise InputError(
            f"{path}: no weight has the name and shape of one of this model (init_from); check the model's class, width "
            "and encoder"
        )
    module.load_state_dict(matching, strict=False)
