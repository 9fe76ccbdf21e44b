"""Finds what a fit would refuse about the data, by running the steps that `dmml fit` takes before its first batch."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from dmml.cohort.cohort import Cohort
from dmml.data.module import MultimodalDataModule
from dmml.experiment.crossval.fit import build
from dmml.experiment.doctor.examination import Examination
from dmml.training.checkpointing.named_checkpoints import named_checkpoints
from dmml.training.fitted_module import FittedModule
from dmml.training.library_warnings import silence_library_warnings

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule

_TRAINER = {"logger": False, "accelerator": "cpu", "devices": 1, "enable_progress_bar": False}


class _TablesOnly(MultimodalDataModule):
    """The data of a fit without statistics of the features, which take minutes to read and refuse nothing."""

    def feature_statistics(self, patients: list[str]) -> dict[str, Any]:
        """Fit no statistics."""
        return {}


def examine_fit(examination: Examination, cohort: Cohort, model: Mapping[str, Any], section: Mapping[str, Any]) -> None:
    """Add what a fit refuses in each fold, since a cross-validation fits them all.

    A model that starts from a checkpoint is checked only in the config's fold, to which the checkpoint belongs.

    Args:
        examination: Blocking findings are added to it.
        cohort: The cohort that was examined.
        model: The config's model section.
        section: Arguments of `MultimodalDataModule`.
    """
    silence_library_warnings()
    arguments = model.get("init_args") or {}
    module = examination.attempt("model", lambda: build(model, _TRAINER)[0])
    data = examination.attempt("data", lambda: _TablesOnly(**section))
    if module is None or data is None:
        return
    config_fold = cohort.fold
    if cohort.split is None or named_checkpoints(arguments):  # a model that starts from a checkpoint
        folds = [config_fold]
    else:
        folds = sorted(cohort.split.folds)
    for fold in folds:
        cohort.fold = fold
        part = "fit" if cohort.split is None else f"fit, fold {fold}"
        examination.attempt(part, partial(_begin_fit, copy.deepcopy(module), data, cohort))
    cohort.fold = config_fold


def _begin_fit(module: LightningModule, data: MultimodalDataModule, cohort: Cohort) -> None:
    """Do what `Trainer.fit` does with a model and its data before the first batch."""
    with _without_information():  # the doctor's table already has the counts that a fit logs
        if not data.has_cohort:
            data.use_cohort(cohort)
        data.setup("fit")
    if isinstance(module, FittedModule):  # a user's own class may fit itself in another way
        module.fit_to_data(data)
        if cohort.clinical.kind is not None:  # a class that only test patients have stops the test
            module.task.encode(data.outcome(data.patients("outer_test")))


@contextmanager
def _without_information() -> Iterator[None]:
    """Keep dmml from logging anything below a warning while the block runs."""
    logger = logging.getLogger("dmml")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
