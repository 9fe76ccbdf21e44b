"""Loads the model of a checkpoint, and the encoder that it was trained on, without trusting either file."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmml.cohort.file_hashes import hash_of
from dmml.errors import InputError, reason_of
from dmml.experiment.run_folder import run_of_checkpoint
from dmml.store.root_attributes import VECTORS
from dmml.training.checkpointing.checkpoint import read_checkpoint

if TYPE_CHECKING:
    from dmml.slides.encoders.build import Encoder
    from dmml.training.subspace_module import SubspaceModule

_INSTANTIATORS = (None, "lightning.pytorch.cli.instantiate_module")


@dataclass(frozen=True)
class CheckpointModel:
    """A model ready for inference, and its origin."""

    module: SubspaceModule
    path: Path
    identity: dict[str, Any]
    """`checkpoint`, `sha256` (first 16 digits), `run`, `class`, `epoch`, `training_cohort`, `n_training`"""

    @property
    def encoder(self) -> dict[str, Any]:
        """Identity of the encoder that the model was trained on: `name`, `weights` (hash), `dim`, `preprocessing`."""
        return self.module.fitted.get("encoder") or {}

    @property
    def reads_rna(self) -> bool:
        """Whether the model reads RNA if there is any, as teachers do."""
        return hasattr(self.module, "expression")


def load_model(path: str | Path) -> CheckpointModel:
    """Load a teacher or a student for inference.

    Raises:
        InputError: The file is not a checkpoint of dmml, its class cannot be imported or is not one of dmml's models,
            or the model reads no slides.
    """
    checkpoint = read_checkpoint(path)
    hparams = checkpoint["hyper_parameters"]
    encoder = (hparams.get("fitted") or {}).get("encoder") or {}
    if not hparams.get("n_features") or not encoder.get("name"):
        raise InputError(
            f"{path}: its model was trained without slides; give a checkpoint of a model that reads slides"
        )
    kind = _model_class(path, hparams)
    try:
        module = kind.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = reason_of(error)[:160]
        raise InputError(
            f"{path}: does not fit {kind.__name__} ({reason}); use the dmml version that wrote it"
        ) from error
    module.eval().requires_grad_(False)
    identity = {
        "checkpoint": str(path),
        "sha256": hash_of(Path(path)),
        "run": run_of_checkpoint(path).resolve().name,
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "epoch": checkpoint.get("epoch"),
        "training_cohort": module.fitted.get("cohort"),
        "n_training": module.fitted.get("n_training"),
    }
    return CheckpointModel(module, Path(path), identity)


def _model_class(path: str | Path, hparams: dict[str, Any]) -> type[SubspaceModule]:
    """Return the class that a checkpoint names; a user's own class must be importable and derive from dmml's."""
    from dmml.training.subspace_module import SubspaceModule

    name = str(hparams.get("_class_path"))
    module, _, attribute = name.rpartition(".")
    try:
        kind = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"{path}: its model class {name} cannot be imported; run the command in the folder that holds the class"
        ) from error
    # Lightning calls the function that `_instantiator` names, and a foreign checkpoint must not choose that function.
    if (
        not (isinstance(kind, type) and issubclass(kind, SubspaceModule))
        or hparams.get("_instantiator") not in _INSTANTIATORS
    ):
        raise InputError(
            f"{path}: holds a {name}, no SubspaceStudent or SubspaceTeacher; use one written by `dmml fit`"
        )
    return kind


def load_its_encoder(model: CheckpointModel, weights: str | Path | None = None) -> Encoder:
    """Load the encoder that a model was trained on, and make sure that its weights are the same, tensor by tensor.

    Args:
        model: The model, from `load_model`.
        weights: Local weights; needed if no package contains them and there is no network.

    Raises:
        InputError: The encoder cannot be loaded, or its weights or preprocessing differ.
    """
    from dmml.slides.encoders.build import load_encoder

    wanted = model.encoder
    if wanted.get("content") == VECTORS:
        raise InputError(
            f"{model.path}: the model reads vectors of slides ({wanted['name']}), which dmml cannot make from a slide; import "
            "the slide's vector with `dmml features import`, and use `dmml predict`"
        )
    try:
        encoder = load_encoder(wanted["name"], weights)
    except InputError as error:
        way_out = "give other --weights" if weights else "give its weights with --weights FILE"
        raise InputError(
            f"{model.path}: the model reads features of the encoder {wanted['name']}, which cannot be loaded; {way_out} ({error})"
        ) from error
    if encoder.weights != wanted.get("weights"):
        raise InputError(
            f"{model.path}: the model was trained on {wanted['name']} with weights {_short(wanted.get('weights'))}, "
            f"{'--weights ' + str(weights) if weights else 'those found here'} are {_short(encoder.weights)}; "
            "give the weights that the features were extracted with: --weights FILE"
        )
    if wanted.get("preprocessing") and encoder.preprocessing != wanted["preprocessing"]:
        raise InputError(
            f"{model.path}: the model was trained on {wanted['name']} with preprocessing {wanted['preprocessing']}, here it is "
            f"{encoder.preprocessing}; use the timm version that the features were extracted with"
        )
    return encoder


def _short(digest: str | None) -> str:
    return f"{digest[:12]}…" if digest else "unknown"
