"""Which patients a model has seen: salted hashes of their ids in its checkpoint, and the check that none leaks."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from dmml.cohort.id_matching import unique_patient_keys
from dmml.errors import InputError


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
    parts: Sequence[str] = ("train", "val"),
) -> list[str]:
    """Return the patients that a model has seen.

    A model has seen its training patients, the inner validation patients that chose its epoch, and both kinds of
    patients of the models that it learned from (a teacher, `init_from`).

    Args:
        patient_ids: Patients to look up.
        cohort: All ids of their table. Two ids that are spelt differently are taken for the same patient if they have
            the same `patient_key` and that key identifies one patient; see `unique_patient_keys`.
        fitted: Fitted values of the model.
        parts: Parts of the model's patients that count as seen: "train" (training), "val" (inner validation).
    """
    patients_of_model = fitted.get("patients") or {}
    models = [patients_of_model, *patients_of_model.get("before", {}).values()]
    unique_keys = unique_patient_keys(cohort)
    keys = {patient: unique_keys[patient] for patient in patient_ids if patient in unique_keys}
    seen: set[str] = set()
    for hashed in filter(None, (model.get(part) for model in models for part in parts)):
        seen |= set(patients_among(patient_ids, hashed))
        hashes, salt = set(hashed.get("keys") or ()), hashed["salt"]
        seen |= {patient for patient, key in keys.items() if _hash(salt, key) in hashes}
    return [patient for patient in patient_ids if patient in seen]


def patients_of_sources(*fitted: Mapping[str, Any]) -> dict[str, Any]:
    """Collect the hashed patients of the models that a model learned from, and of the models that those learned from.

    Args:
        fitted: Fitted values of each model that it learned from.

    Returns:
        {number: {"train": hashes, "val": hashes}}, which a checkpoint stores as `patients["before"]` and `check_leak`
        reads.
    """
    collected = []
    for values in fitted:
        patients = dict(values.get("patients") or {})
        collected += list(patients.pop("before", {}).values()) + ([patients] if patients else [])
    return {str(i): patients for i, patients in enumerate(collected)}


def check_leak(path: str | Path, fitted: Mapping[str, Any], patients: Callable[[str], list[str]]) -> None:
    """Refuse a source model that was trained on patients who validate or test the model that learns from it.

    The source model's inner validation patients may be those of the new model, because the same split gives both models
    the same ones, and the deep parts are not trained on them. A backbone is, but `copy_matching_weights` does not copy
    it, and `SubspaceStudent.fit_backbone` cross-fits the one that it copies. They must not be among the new model's
    test patients. A checkpoint that does not record its patients, such as one saved by a plain script, causes a warning.

    Args:
        path: Path of the source model's checkpoint.
        fitted: Fitted values of the source model, including the hashes of its patients.
        patients: Returns the "val" and "outer_test" patients of the new model.

    Raises:
        InputError: The source model has seen such patients.
    """
    patients_of_model = fitted.get("patients") or {}
    if not patients_of_model:
        rank_zero_warn(
            f"{path}: this checkpoint does not record the patients it was fitted to, so a leak of validation or test "
            "patients into it cannot be noticed; results are honest only if it has not seen them"
        )
    leaked: list[str] = []
    for model in [patients_of_model, *patients_of_model.get("before", {}).values()]:
        leaked += patients_among([*patients("val"), *patients("outer_test")], model.get("train"))
        leaked += patients_among(patients("outer_test"), model.get("val"))
    if leaked:
        raise InputError(
            f"{path}: this model was fitted on {len(set(leaked))} of the validation or test patients (first: "
            f"{leaked[0]}); use one that was fitted with the same split and fold"
        )


def _hash(salt: str, patient: str) -> str:
    return hashlib.sha256(f"{salt}:{patient}".encode()).hexdigest()[:16]
