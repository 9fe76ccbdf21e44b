"""Reading checkpoints without trusting them, and what makes a module's own checkpoint plain."""

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

from dmml.cohort.id_spelling import telling_keys
from dmml.errors import InputError
from dmml.tasks import Task
from dmml.training.packing import unpack


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint with `weights_only=True`.

    Raises:
        InputError: There is no file, it is no checkpoint, or not one of dmml's.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such checkpoint; `dmml fit` writes them to <run>/checkpoints/")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for files that are not its own
        reason = str(error).splitlines()[0][:120]
        raise InputError(
            f"{path}: not a checkpoint that can be read safely ({reason}); use one written by `dmml fit`"
        ) from error
    parts = checkpoint if isinstance(checkpoint, dict) else {}
    if not isinstance(parts.get("hyper_parameters"), dict) or "state_dict" not in parts:
        raise InputError(f"{path}: a torch file but no checkpoint of a dmml model; use one written by `dmml fit`")
    return checkpoint


def adopt(module: Any, hparams: Mapping[str, Any]) -> None:
    """Give a model the gene lists, programs and task arguments of another where it has none of its own.

    Args:
        module: A teacher or student.
        hparams: Hyper-parameters in the other's checkpoint.
    """
    if module.genes is None:
        module.genes, module.programs = unpack(hparams.get("genes")), unpack(hparams.get("programs"))
    given = module.task.init_args()
    for name, value in (hparams["task"].get("init_args") or {}).items():
        if given.get(name) is None and value is not None:
            setattr(module.task, name, value)


_FITTED = ("backbone.", "deep_share", "program_share")


def start_from(module: nn.Module, path: str, weights: Mapping[str, Tensor]) -> None:
    """Copy the weights of a checkpoint that have the same name and shape in a module.

    Args:
        module: Whose weights are replaced.
        path: The checkpoint, for the message.
        weights: {name: tensor} of the checkpoint.

    Raises:
        InputError: No weight fits.
    """
    # The backbone, and the shares that an inner validation chose, belong to the patients of their own fit.
    own = {name: value for name, value in module.state_dict().items() if not name.startswith(_FITTED)}
    same = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    if not same:
        raise InputError(f"{path}: no weight fits this model (init_from); check width, encoder and class of the model")
    module.load_state_dict(same, strict=False)


def class_config(value: Any) -> Any:
    """An object or factory as `{class_path, init_args}`, which `weights_only` loads and a config can hold.

    A `Task` gives its own arguments; a class or `functools.partial` of one, its path and keyword arguments.
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
    """Salted hashes of patient ids: a checkpoint can tell whether it saw a patient, but not list them.

    Args:
        patient_ids: Of one part (training, inner validation).
        salt: None draws one.

    Returns:
        {"salt": salt, "hashes": of the ids, "keys": of their `patient_key`, by which an id is known that another table
        spells differently}; see `telling_keys`.
    """
    salt, ids = salt or secrets.token_hex(8), list(patient_ids)
    return {
        "salt": salt,
        "hashes": sorted(_hash(salt, patient) for patient in ids),
        "keys": sorted({_hash(salt, key) for key in telling_keys(ids).values()}),
    }


def patients_among(patient_ids: Iterable[str], hashed: dict[str, Any] | None) -> list[str]:
    """Those of the patients whose hash is in the list."""
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
    """The patients that a model has seen.

    It saw those of its training, those of the inner validation that chose its epoch, and those of both of the models that
    it learned from (a teacher, `init_from`).

    Args:
        patient_ids: Patients to test.
        cohort: All ids of their table. An id that is spelt differently from one that the model saw is taken for the same
            patient where their `patient_key` is one and tells patients apart, see `telling_keys`.
        fitted: What was fitted with the model.
        known_parts: Parts of the model's patients that count: training, inner validation.
    """
    own = fitted.get("patients") or {}
    parts = [each.get(part) for each in (own, *own.get("before", {}).values()) for part in known_parts]
    telling = telling_keys(cohort)
    keys = {patient: telling[patient] for patient in patient_ids if patient in telling}
    seen: set[str] = set()
    for hashed in filter(None, parts):
        seen |= set(patients_among(patient_ids, hashed))
        hashes, salt = set(hashed.get("keys") or ()), hashed["salt"]
        seen |= {patient for patient, key in keys.items() if _hash(salt, key) in hashes}
    return [patient for patient in patient_ids if patient in seen]


def seen_before(*fitted: Mapping[str, Any]) -> dict[str, Any]:
    """Patients of the models that a model learned from, and of those that these had learned from.

    Args:
        fitted: What was fitted with each.

    Returns:
        {number: {"train": hashes, "val": hashes}}, as `refuse_leak` reads it from a checkpoint's `patients["before"]`.
    """
    found = []
    for each in fitted:
        own = dict(each.get("patients") or {})
        found += list(own.pop("before", {}).values()) + ([own] if own else [])
    return {str(i): each for i, each in enumerate(found)}


def refuse_leak(path: str | Path, fitted: Mapping[str, Any], patients: Callable[[str], list[str]]) -> None:
    """A model that another learns from must not know the patients that choose the other's epoch, or test it.

    Its inner validation may be the other's: neither learns from it, and the same split gives both the same. A checkpoint
    that does not say whom it was fitted on, as a plain script saves one, is warned about.

    Args:
        path: Of the model's checkpoint.
        fitted: What was fitted with it, its patients' hashes among that.
        patients: Gives the other's "val" and "outer_test" patients.

    Raises:
        InputError: It was fitted on some of them.
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
