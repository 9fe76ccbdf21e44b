"""Reads untrusted checkpoints safely, starts models from them, and checks which patients a model has seen."""

from __future__ import annotations

import functools
import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from dmml.cohort.id_matching import unique_patient_keys
from dmml.errors import InputError
from dmml.tasks import Task
from dmml.training.checkpointing.packing import unpack

FORMAT = 2
"""Number of the layout of networks and hyper-parameters; raise it whenever older checkpoints can no longer be loaded"""
FORMAT_KEY = "dmml_format"
"""Key of the format number in a checkpoint; checkpoints of format 1 have no such key"""


def check_format(checkpoint: Mapping[str, Any], path: str | Path = "") -> None:
    """Refuse a checkpoint whose networks are laid out in another way than those of this dmml.

    Args:
        checkpoint: Content of the checkpoint.
        path: Path of the checkpoint, for the error message; empty if unknown.

    Raises:
        InputError: The checkpoint has another format number, or none.
    """
    number = checkpoint.get(FORMAT_KEY, 1)
    if number == FORMAT:
        return
    start = f"{path}: this checkpoint" if path else "this checkpoint"
    if isinstance(number, int) and number < FORMAT:
        raise InputError(
            f"{start} was written by an earlier dmml (format {number}), whose networks are laid out differently; fit the "
            "model again, or use the version of dmml that wrote it"
        )
    raise InputError(
        f"{start} was written by a later dmml (format {number}), and this one reads format {FORMAT}; update dmml, or fit "
        "the model again"
    )


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint with `weights_only=True`.

    Raises:
        InputError: The file does not exist, is not a checkpoint of a dmml model, or has another format number.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such checkpoint; `dmml fit` writes them to <run>/checkpoints/")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen exception types for files in other formats
        reason = str(error).splitlines()[0][:120]
        raise InputError(
            f"{path}: not a checkpoint that can be read safely ({reason}); use one written by `dmml fit`"
        ) from error
    parts = checkpoint if isinstance(checkpoint, dict) else {}
    if not isinstance(parts.get("hyper_parameters"), dict) or "state_dict" not in parts:
        raise InputError(f"{path}: a torch file but no checkpoint of a dmml model; use one written by `dmml fit`")
    check_format(checkpoint, path)
    return checkpoint


def adopt(module: Any, hparams: Mapping[str, Any]) -> None:
    """Copy gene lists, programs and task arguments from another model's checkpoint where a model has none.

    Args:
        module: Teacher or student that is changed in place.
        hparams: Hyper-parameters in the checkpoint of the other model.
    """
    if module.genes is None:
        module.genes, module.programs = unpack(hparams.get("genes")), unpack(hparams.get("programs"))
    given = module.task.init_args()
    for name, value in (hparams["task"].get("init_args") or {}).items():
        if given.get(name) is None and value is not None:
            setattr(module.task, name, value)


_FITTED = ("backbone.", "deep_share", "program_share")


def start_from(module: nn.Module, path: str, weights: Mapping[str, Tensor]) -> None:
    """Copy those weights of a checkpoint whose name and shape match a weight of the module.

    Args:
        module: Module whose weights are replaced.
        path: Path of the checkpoint, for the error message.
        weights: {name: tensor} of the checkpoint.

    Raises:
        InputError: No weight matches.
    """
    # The backbone, and the shares chosen in inner validation, depend on the patients of their fit and are not copied.
    own = {name: value for name, value in module.state_dict().items() if not name.startswith(_FITTED)}
    same = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    if not same:
        raise InputError(f"{path}: no weight fits this model (init_from); check width, encoder and class of the model")
    module.load_state_dict(same, strict=False)


def class_config(value: Any) -> Any:
    """Describe an object or factory as `{class_path, init_args}`, which `weights_only` loads and a config can hold.

    A `Task` is described by its arguments, a class by its path, and a `functools.partial` by its path and keyword
    arguments. Any other value is returned unchanged.
    """
    if isinstance(value, Task):
        return {"class_path": _path(type(value)), "init_args": value.init_args()}
    if isinstance(value, functools.partial):
        return {"class_path": _path(value.func), "init_args": dict(value.keywords)}
    if isinstance(value, type):
        return {"class_path": _path(value)}
    return value


def _path(kind: Any) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def hash_patients(patient_ids: Iterable[str], salt: str | None = None) -> dict[str, Any]:
    """Hash patient ids with a salt: a checkpoint can then tell whether it saw a patient, but not list its patients.

    Args:
        patient_ids: Ids of one part (training, inner validation).
        salt: Salt of the hashes; None = a random one.

    Returns:
        {"salt": salt, "hashes": hashes of the ids, "keys": hashes of their `patient_key`}. The keys make it possible to
        recognise an id that another table spells differently; see `unique_patient_keys`.
    """
    salt, ids = salt or secrets.token_hex(8), list(patient_ids)
    return {
        "salt": salt,
        "hashes": sorted(_hash(salt, patient) for patient in ids),
        "keys": sorted({_hash(salt, key) for key in unique_patient_keys(ids).values()}),
    }


def patients_among(patient_ids: Iterable[str], hashed: dict[str, Any] | None) -> list[str]:
    """Return the patients whose hash is in `hashed`, as `hash_patients` made it; [] without hashes."""
    if not hashed:
        return []
    seen = set(hashed["hashes"])
    return [patient for patient in patient_ids if _hash(hashed["salt"], patient) in seen]


def patients_seen(
    patient_ids: Sequence[str],
    cohort: Iterable[str],
    fitted: Mapping[str, Any],
    known_parts: Sequence[str] = ("train", "val"),
) -> list[str]:
    """Return the patients that a model has seen.

    A model has seen its training patients, the inner validation patients that chose its epoch, and both kinds of
    patients of the models that it learned from (a teacher, `init_from`).

    Args:
        patient_ids: Patients to look up.
        cohort: All ids of their table. Two ids that are spelt differently are taken for the same patient if they have
            the same `patient_key` and that key identifies one patient; see `unique_patient_keys`.
        fitted: Fitted values of the model.
        known_parts: Parts of the model's patients that count as seen: "train" (training), "val" (inner validation).
    """
    own = fitted.get("patients") or {}
    parts = [each.get(part) for each in (own, *own.get("before", {}).values()) for part in known_parts]
    telling = unique_patient_keys(cohort)
    keys = {patient: telling[patient] for patient in patient_ids if patient in telling}
    seen: set[str] = set()
    for hashed in filter(None, parts):
        seen |= set(patients_among(patient_ids, hashed))
        hashes, salt = set(hashed.get("keys") or ()), hashed["salt"]
        seen |= {patient for patient, key in keys.items() if _hash(salt, key) in hashes}
    return [patient for patient in patient_ids if patient in seen]


def seen_before(*fitted: Mapping[str, Any]) -> dict[str, Any]:
    """Collect the hashed patients of the models that a model learned from, and of the models that those learned from.

    Args:
        fitted: Fitted values of each model that it learned from.

    Returns:
        {number: {"train": hashes, "val": hashes}}, which a checkpoint stores as `patients["before"]` and `refuse_leak`
        reads.
    """
    found = []
    for each in fitted:
        own = dict(each.get("patients") or {})
        found += list(own.pop("before", {}).values()) + ([own] if own else [])
    return {str(i): each for i, each in enumerate(found)}


def refuse_leak(path: str | Path, fitted: Mapping[str, Any], patients: Callable[[str], list[str]]) -> None:
    """Refuse a source model that was trained on patients who validate or test the model that learns from it.

    The source model's inner validation patients may be those of the new model, because the same split gives both models
    the same ones, and the deep parts are not trained on them. A backbone is, but `start_from` does not copy it, and
    `SubspaceStudent.fit_backbone` cross-fits the one that it copies. They must not be among the new model's test
    patients. A checkpoint that does not record its patients, such as one saved by a plain script, causes a warning.

    Args:
        path: Path of the source model's checkpoint.
        fitted: Fitted values of the source model, including the hashes of its patients.
        patients: Returns the "val" and "outer_test" patients of the new model.

    Raises:
        InputError: The source model has seen such patients.
    """
    seen = fitted.get("patients") or {}
    if not seen:
        rank_zero_warn(
            f"{path}: does not say on whom it was fitted, so nobody can tell whether it knows the validation or test "
            "patients; their figures are honest only if it does not"
        )
    known: list[str] = []
    for each in [seen, *seen.get("before", {}).values()]:
        known += patients_among([*patients("val"), *patients("outer_test")], each.get("train"))
        known += patients_among(patients("outer_test"), each.get("val"))
    if known:
        raise InputError(
            f"{path}: this model was fitted on {len(set(known))} of the validation or test patients (first: {known[0]}); "
            "use one that was fitted with the same split and fold"
        )


def _hash(salt: str, patient: str) -> str:
    return hashlib.sha256(f"{salt}:{patient}".encode()).hexdigest()[:16]
