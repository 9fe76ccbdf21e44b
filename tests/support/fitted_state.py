"""All that a fold of a cross-validation fitted, and the places at which two such collections differ by any bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dmml.experiment.crossval import linear_models as crossval_linear
from dmml.experiment.patient_flow import TESTED
from dmml.tasks import Task
from dmml.training.checkpointing import seen_patients

SOURCE_HASHES = ("clinical", "expression")
"""Of the files that a test changes: they stand in a checkpoint to tell which files it was fitted on"""


def record_regressions(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Record the inputs and the result of every linear model, because a fold's folder holds only its norm.

    The inner folds that chose its penalty are kept with it.
    """
    fitted: list[dict[str, Any]] = []
    unfinished: list[Any] = []
    original, original_choice = crossval_linear.fit_regression, crossval_linear.choose_penalty

    def choose_and_keep(regression, folds):
        unfinished.append((folds, original_choice(regression, folds)))
        return unfinished[-1][1]

    def fit_and_keep(regression, x, outcome, penalty, where):
        model = original(regression, x, outcome, penalty, where)
        folds, (choice, models) = unfinished.pop()
        assert choice == penalty
        inner = [fold._asdict() for fold in folds]
        fitted.append({"x": x, "outcome": outcome, "inner": inner, "inner models": models, "model": model})
        return model

    monkeypatch.setattr(crossval_linear, "choose_penalty", choose_and_keep)
    monkeypatch.setattr(crossval_linear, "fit_regression", fit_and_keep)
    # Ids are hashed with a salt drawn anew: the same one lets the hashes be compared too.
    monkeypatch.setattr(seen_patients.secrets, "token_hex", lambda n: "5a" * n)
    return fitted


def fitted_state(out: Path, regressions: list[dict[str, Any]]) -> dict[str, Any]:
    """Checkpoints whole (weights, optimiser, epoch, hyper-parameters), contexts and inner predictions of fold 0."""
    numbers: dict[str, Any] = {"regressions": list(regressions)}
    for folder in sorted((out / "fold_0").iterdir()):
        numbers[folder.name] = {
            "context": json.loads((folder / "context.json").read_text()),
            "inner": (folder / "inner.csv").read_text(),
        }
        # The diagram of the patients counts those of the test, too; nothing is fitted to these counts.
        flow = numbers[folder.name]["context"].pop("flow")
        numbers[folder.name]["flow"] = [part for part in flow["parts"] if part["name"] != TESTED["test"]]
        for name in SOURCE_HASHES:
            numbers[folder.name]["context"]["hashes"].pop(name)
        best = folder / "checkpoints" / "best.ckpt"
        if best.is_file():
            kept = torch.load(best, weights_only=True)
            for name in SOURCE_HASHES:
                kept["hyper_parameters"]["fitted"]["hashes"].pop(name)
            numbers[folder.name]["checkpoint"] = _without(str(out), kept)
    return numbers


def _without(root: str, value: Any) -> Any:
    """The same with the run's own folder taken out of every text."""
    if isinstance(value, str):
        return value.replace(root, "")
    if isinstance(value, Mapping):
        return {_without(root, key): _without(root, item) for key, item in value.items()}
    return [_without(root, item) for item in value] if isinstance(value, list | tuple) else value


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    """Paths at which two collections differ; NaN equals NaN, and all other values must be identical."""
    if is_dataclass(a) and type(a) is type(b):
        a, b = asdict(a), asdict(b)
    if isinstance(a, Task) and type(a) is type(b):
        a, b = a.init_args(), b.init_args()
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        a, b = a.numpy(), b.numpy()
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        same = a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        return [] if same else [where]
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        apart = [f"{where}/{key}" for key in a.keys() ^ b.keys()]
        return apart + [line for key in a.keys() & b.keys() for line in differences(a[key], b[key], f"{where}/{key}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [line for i, pair in enumerate(zip(a, b, strict=True)) for line in differences(*pair, f"{where}/{i}")]
    return [] if type(a) is type(b) and (a == b or (a != a and b != b)) else [where]
