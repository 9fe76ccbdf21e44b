"""Loads the model of a checkpoint, and the encoder that it was trained on, without trusting either file."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmml.class_paths import check_class_path, import_class
from dmml.cohort.file_hashes import hash_of
from dmml.errors import InputError, reason_of
from dmml.experiment.fit_defaults import SHORT_NAMES
from dmml.experiment.run_folder import run_of_checkpoint
from dmml.networks.named_classes import are_plain
from dmml.slides.tiling.grid import DEFAULT_TILE_PX
from dmml.store.encoder_identity import STAINS, describe_stains
from dmml.store.root_attributes import VECTORS

if TYPE_CHECKING:
    from dmml.networks.subspace_network import SubspaceNetwork
    from dmml.slides.encoders.encoder import Encoder
    from dmml.slides.stains.stains import StainNormalization

_LOG = logging.getLogger(__name__)
NETWORK_OF_CLASS = {
    "dmml.training.teacher.SubspaceTeacher": "dmml.networks.teacher_network.TeacherNetwork",
    "dmml.training.student.SubspaceStudent": "dmml.networks.student_network.StudentNetwork",
}
"""Class that a checkpoint of dmml names, and its network, which needs neither Lightning nor its seconds of import"""


@dataclass(frozen=True)
class CheckpointModel:
    """A model ready for inference, and its origin."""

    module: SubspaceNetwork
    """A plain network for dmml's own teacher and student, a LightningModule for a class of the user's own"""
    path: Path
    identity: dict[str, Any]
    """`checkpoint`, `sha256` (first 16 digits), `run`, `class`, `epoch`, `training_cohort`, `n_training`"""

    @property
    def encoder(self) -> dict[str, Any]:
        """Identity of the encoder that the model was trained on: `name`, `weights` (hash), `dim`, `preprocessing`."""
        return self.module.fitted.get("encoder") or {}

    @property
    def tile_px(self) -> int:
        """Side of the tiles that the model was trained on, px; of a checkpoint that does not record it, 224."""
        return int(self.module.fitted.get("tile_px") or DEFAULT_TILE_PX)

    @property
    def reads_rna(self) -> bool:
        """Whether the model reads RNA if there is any, as teachers do."""
        return hasattr(self.module, "expression")


def check_reads_slides(hparams: Mapping[str, Any], path: str | Path) -> None:
    """Refuse a model that reads no slides.

    Args:
        hparams: Hyper-parameters of the checkpoint.
        path: The checkpoint.

    Raises:
        InputError: The model was trained without slides.
    """
    encoder = (hparams.get("fitted") or {}).get("encoder") or {}
    if not hparams.get("n_features") or not encoder.get("name"):
        raise InputError(
            f"{path}: the model was trained without slides; give a checkpoint of a model that reads slides"
        )


def load_model(path: str | Path) -> CheckpointModel:
    """Load a teacher or a student for inference.

    Raises:
        InputError: The file is not a checkpoint of dmml, its class cannot be imported or is not one of dmml's models,
            or the model reads no slides.
    """
    from dmml.networks.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(path)
    check_reads_slides(checkpoint["hyper_parameters"], path)
    class_path = _class_path(checkpoint)
    try:
        module = _rebuild(path, checkpoint)
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        reason = reason_of(error)[:160]
        raise InputError(
            f"{path} does not fit {class_path.rpartition('.')[2]} ({reason}); use the version of dmml that wrote it"
        ) from error
    module.eval().requires_grad_(False)
    identity = {
        "checkpoint": str(path),
        "sha256": hash_of(Path(path)),
        "run": run_of_checkpoint(path).resolve().name,
        "class": class_path,
        "epoch": checkpoint.get("epoch"),
        "training_cohort": module.fitted.get("cohort"),
        "n_training": module.fitted.get("n_training"),
    }
    return CheckpointModel(module, Path(path), identity)


def _rebuild(path: str | Path, checkpoint: dict[str, Any]) -> SubspaceNetwork:
    """Rebuild the network of a checkpoint; a user's own class must be importable and derive from dmml's."""
    from dmml.networks.subspace_network import SubspaceNetwork

    class_path = _class_path(checkpoint)
    if class_path in NETWORK_OF_CLASS and are_plain(checkpoint["hyper_parameters"]):
        return import_class(NETWORK_OF_CLASS[class_path], SubspaceNetwork, path).from_checkpoint(checkpoint)
    from dmml.training.subspace_module import SubspaceModule

    own_class = import_class(class_path, SubspaceModule, path)
    return own_class.load_from_checkpoint(path, map_location="cpu", weights_only=True)


def _class_path(checkpoint: dict[str, Any]) -> str:
    """Return the path of the class that a checkpoint names, which may be a public name such as `dmml.SubspaceStudent`."""
    path = str(checkpoint["hyper_parameters"].get("_class_path"))
    package, _, name = path.rpartition(".")
    return f"{SHORT_NAMES[name]}.{name}" if package == "dmml" and name in SHORT_NAMES else path


def load_encoder_of(model: CheckpointModel, weights: str | Path | None = None) -> Encoder:
    """Load the encoder that a model was trained on, for tiles of its size, and make sure that its weights are the same, tensor by tensor.

    An encoder that was exported before, and that runs fastest on this processor as a graph, is loaded from the cache of
    graphs, by the hash of its weights; then the weights themselves are not needed.

    Args:
        model: The model, from `load_model`.
        weights: Local weights; needed if no package contains them and there is no network.

    Raises:
        InputError: The encoder cannot be loaded, its weights or preprocessing differ, or it is a class of the user's own
            whose code lies in the same folder as the checkpoint.
    """
    from dmml.slides.encoders.backend_choice import cached_encoder
    from dmml.slides.encoders.build import load_encoder
    from dmml.slides.encoders.encoder import cuda_is_available
    from dmml.slides.encoders.user_encoder import is_user_encoder

    expected, tile_px = model.encoder, model.tile_px
    if expected.get("content") == VECTORS:
        raise InputError(
            f"{model.path}: the model reads vectors of slides ({expected['name']}), which dmml cannot make from a slide; import "
            "the slide's vector with `dmml features import`, and use `dmml predict`"
        )
    if weights is None and not cuda_is_available():
        cached = cached_encoder(expected, tile_px=tile_px)
        if cached is not None:
            return cached
    if is_user_encoder(expected["name"]):
        check_class_path(expected["name"].replace(":", "."), model.path)
    try:
        encoder = load_encoder(expected["name"], weights, tile_px=tile_px)
    except InputError as error:
        way_out = "name other weights with --weights" if weights else "name a file with its weights with --weights"
        raise InputError(
            f"{model.path}: the model reads features of the encoder {expected['name']}, which cannot be loaded; {way_out} ({error})"
        ) from error
    if encoder.weights != expected.get("weights"):
        raise InputError(
            f"{model.path}: the model was trained on {expected['name']} with weights {_short(expected.get('weights'))}, "
            f"but {'those of --weights ' + str(weights) if weights else 'the installed ones'} are {_short(encoder.weights)}; name "
            "the weights that the features were extracted with: --weights FILE"
        )
    if expected.get("preprocessing") and encoder.preprocessing != expected["preprocessing"]:
        raise InputError(
            f"{model.path}: the model was trained on {expected['name']} with the preprocessing {expected['preprocessing']}, but "
            f"the installed one is {encoder.preprocessing}; use the version of timm that the features were extracted with"
        )
    return encoder


def stain_normalization_of(model: CheckpointModel) -> StainNormalization | None:
    """Return the stain normalisation of the tiles that a model was trained on; None for tiles as scanned.

    A further slide is normalised in the same way: its own stains are fitted by the same method, and the target's stains
    are those in the checkpoint. If the library has another version than in training, a warning says so.

    Raises:
        InputError: The library that estimates stains is not installed.
    """
    identity = model.encoder.get(STAINS)
    if not identity:
        return None
    from dmml.slides.stains.fit_stains import library_of
    from dmml.slides.stains.stains import StainNormalization

    try:
        library = library_of(str(identity["method"]))
    except InputError as error:
        raise InputError(
            f"{model.path}: the model was trained on tiles {describe_stains(model.encoder)}; {error}"
        ) from error
    if library != identity["library"]:
        _LOG.warning(
            "%s: stains were fitted by %s in training, and now by %s", model.path, identity["library"], library
        )
    return StainNormalization.from_identity(identity)


def _short(digest: str | None) -> str:
    return f"{digest[:12]}…" if digest else "unknown"
