"""Refuses to test a model on patients that it was trained on, or counts them if such a test was requested."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only

from dmml.cohort.cohort import Cohort
from dmml.errors import InputError
from dmml.evaluation.caveats import UNKNOWN_TEXT
from dmml.training.checkpointing.seen_patients import patients_seen

logger = logging.getLogger(__name__)

MAX_NAMED = 3
"""Maximum number of patients that a message names."""


class TrainingPatients(Callback):
    """Looks for the model's training and inner validation patients among those to test, before the model is run.

    `test` refuses such patients unless they are allowed. `predict` warns of them, and `validate` warns of patients that
    the model learned from, as after a forgotten fold. The callback asks the data module, which knows which patients
    have slides or RNA. A user's own data module is asked for `patients("test")`, if it has that method.

    Args:
        checkpoint: Path of the checkpoint, for messages.
        fitted: What was fitted along with the checkpoint's model.
        allowed: Whether training patients may be tested.
        fold_source: Why this fold is tested, as a clause of a message.

    Attributes:
        seen: The training patients among those tested.
        n_tested: Number of tested patients.
    """

    def __init__(self, checkpoint: str, fitted: Mapping[str, Any], allowed: bool, fold_source: str = ""):
        self.checkpoint, self.fitted, self.allowed, self.fold_source = checkpoint, fitted, allowed, fold_source
        self.seen: list[str] = []
        self.n_tested = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check the patients; called after the data module has been set up, and before the model is.

        Raises:
            InputError: Training patients are among those to test, and they are not allowed.
        """
        data = getattr(trainer, "datamodule", None)
        if stage not in ("validate", "test", "predict") or data is None or not hasattr(data, "patients"):
            return
        if self.unknown:
            if stage != "validate":
                _warn("%s: %s", self.checkpoint, UNKNOWN_TEXT)
            return
        cohort = getattr(data, "cohort", None)
        if stage == "validate" and cohort is None:  # a user's own data module need not know this part
            return
        part, seen_in = ("val", self._teaching_parts) if stage == "validate" else ("test", ("train", "val"))
        patients = data.patients(part)
        table = patients if cohort is None else list(cohort.clinical.patients.index)
        self.n_tested = len(patients)
        self.seen = patients_seen(patients, table, self.fitted, seen_in)
        if not self.seen:
            return
        if stage == "test" and not self.allowed:
            raise InputError(f"{self.checkpoint}: {self._count(stage)}; {self._remedy(cohort)}")
        if stage != "test":
            subject = "their predictions look" if stage == "predict" else "these metrics are"
            cross_fitted = stage == "validate" and "val" in seen_in
            pointer = "; metrics.csv of the fit has cross-fitted ones" if cross_fitted else ""
            text = f"{self._count(stage)}; {subject} better than those of new patients would be{pointer}"
            _warn("%s: %s", self.checkpoint, text)

    @property
    def unknown(self) -> bool:
        """Whether the checkpoint does not record which patients it was trained on."""
        return not self.fitted.get("patients")

    @property
    def _teaching_parts(self) -> tuple[str, ...]:
        """Parts of the model's patients on which validating it again is biased.

        Patients who only served to choose the epoch are validated again as a matter of course. A backbone, however, is
        fitted to them, too; its fit is judged by cross-fitted predictions, which no checkpoint holds.
        """
        return ("train", "val") if self.fitted.get("backbone") else ("train",)

    def _count(self, stage: str) -> str:
        named = ", ".join(self.seen[:MAX_NAMED]) + (", …" if len(self.seen) > MAX_NAMED else "")
        parts = self._teaching_parts if stage == "validate" else ("train", "val")
        part = "training or inner validation" if "val" in parts else "training"
        verb = TrainerFn(stage).value
        return f"{len(self.seen)} of the {self.n_tested} patients to {verb} were in the {part} of this model ({named})"

    def _remedy(self, cohort: Cohort | None) -> str:
        return (
            f"{_fold_remedy(cohort, self.fitted, self.fold_source)}; or test another cohort, or give "
            "--allow-training-patients for results that do not show how well the model predicts new patients"
        )


def _fold_remedy(cohort: Cohort | None, fitted: Mapping[str, Any], fold_source: str) -> str:
    """Explain why these patients are tested, and how to test others instead."""
    if cohort is None or cohort.split is None:
        if isinstance(fold := fitted.get("fold"), int):
            return (
                f"the config names no split, so all patients are tested: give data.split as the model had it, and "
                f"--data.fold {fold}, which it was trained without"
            )
        return "the config names no split, so all patients are tested: leave these out of the clinical table"
    table = list(cohort.clinical.patients.index)
    unseen_folds = [k for k, fold in sorted(cohort.split.folds.items()) if not patients_seen(fold.test, table, fitted)]
    tested = f"fold {cohort.fold} of data.split is tested{fold_source}"
    if unseen_folds:
        return f"{tested}: give --data.fold {unseen_folds[0]}, whose patients the model has not seen"
    return f"{tested}, and the model has seen patients of every fold: give the split that it was trained with"


@rank_zero_only
def _warn(message: str, *values: object) -> None:
    logger.warning(message, *values)
