"""Finds what a fit would refuse about the data, by running the steps that `dmml fit` takes before its first batch."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Mapping
from typing import Any

import dmml.nn.paper  # noqa: F401 - a config may name its classes by their short names
from dmml.data.module import MultimodalDataModule
from dmml.experiment.crossval.fit import build
from dmml.experiment.doctor.doctor import Examination
from dmml.training.library_warnings import silence_library_warnings

_TRAINER = {"logger": False, "accelerator": "cpu", "devices": 1, "enable_progress_bar": False}


class _TablesAlone(MultimodalDataModule):
    """The data of a fit without statistics of the features, which take minutes to read and refuse nothing."""

    def feature_statistics(self, patients: list[str]) -> dict[str, Any]:
        """Fit no statistics."""
        return {}


def examine_fit(found: Examination, model: Mapping[str, Any], section: Mapping[str, Any]) -> None:
    """Add what a fit refuses in each fold, since a cross-validation fits them all.

    A model that starts from a checkpoint is checked only in the config's fold, to which the checkpoint belongs.

    Args:
        found: The examination, with the cohort; blocking findings are added to it.
        model: The config's model section.
        section: Arguments of `MultimodalDataModule`.
    """
    silence_library_warnings()
    cohort = found.cohort
    arguments = model.get("init_args") or {}
    module = found.attempt("model", lambda: build(model, _TRAINER)[0])
    data = found.attempt("data", lambda: _TablesAlone(**section))
    if module is None or data is None:
        return
    one_fold = cohort.split is None or arguments.get("teacher") or arguments.get("init_from")
    chosen = cohort.fold
    for fold in [chosen] if one_fold else sorted(cohort.split.folds):
        cohort.fold = fold
        part = "fit" if cohort.split is None else f"fit, fold {fold}"
        found.attempt(part, lambda: _begin(copy.deepcopy(module), data, found))
    cohort.fold = chosen


def _begin(module: Any, data: MultimodalDataModule, found: Examination) -> None:
    """Do what `Trainer.fit` does with a model and its data before the first batch."""
    with contextlib.redirect_stdout(io.StringIO()):  # the doctor's table already has the counts that a fit prints
        if not data.has_cohort:
            data.use_cohort(found.cohort)
        data.setup("fit")
    if hasattr(module, "fit_to_data"):  # a user's own class may fit itself in another way
        module.fit_to_data(data)
        if found.cohort.clinical.kind is not None:  # a class that only test patients have stops the test
            module.task.encode(data.outcome(data.patients("outer_test")))
