"""Loads one model, or all models of a cross-validation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dmml.errors import InputError
from dmml.experiment.fold_models.mean_model import MeanModel
from dmml.experiment.load_model import CheckpointModel, load_model

if TYPE_CHECKING:
    from dmml.networks.subspace_network import SubspaceNetwork


def load_models(checkpoints: Sequence[Path]) -> list[CheckpointModel]:
    """Load the model of a checkpoint, or the models of a cross-validation.

    Args:
        checkpoints: Their checkpoints, from `named_checkpoints`.

    Raises:
        InputError: A model cannot be loaded, or the models were not trained on features of the same encoder and tile size.
    """
    models = [load_model(checkpoint) for checkpoint in checkpoints]
    for model in models[1:]:
        if (model.encoder, model.tile_px) != (models[0].encoder, models[0].tile_px):
            raise InputError(
                f"{model.path}: was trained on features of another encoder or tile size than {models[0].path}; run `dmml crossval` again"
            )
    return models


def as_one(networks: Sequence[SubspaceNetwork]) -> SubspaceNetwork:
    """Return the only network, or the mean of several, which has what deletion tests need of a network."""
    return networks[0] if len(networks) == 1 else cast("SubspaceNetwork", MeanModel(networks))


def identity_of(models: Sequence[CheckpointModel]) -> dict[str, Any]:
    """Return what `prediction.json` says of the model; of several, what they share, and the identity of each."""
    first = models[0].identity
    if len(models) == 1:
        return first
    identities = [model.identity for model in models]
    folder = Path(str(first["checkpoint"])).parent.parent.parent.parent
    return {
        "checkpoint": str(folder),
        "sha256": hashlib.sha256("".join(each["sha256"] for each in identities).encode()).hexdigest()[:16],
        "run": folder.resolve().name,
        "class": first["class"],
        "epoch": None,
        "training_cohort": first["training_cohort"],
        "n_training": None,
        "models": identities,
    }
