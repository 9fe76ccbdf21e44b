"""Refuses to test a model on patients that it was trained on, or counts them if such a test was requested."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from dmml.cohort.cohort import Cohort
from dmml.errors import InputError
from dmml.training.checkpoint import patients_seen

NAMED = 3
"""Number of patients that a message names."""


class TrainingPatients(Callback):
    """Looks for patients of the model's training and inner validation among those to test, before the model is run.

    `test` is refused where there are some, unless they are allowed; `predict` warns. It asks the data module, which
    knows who has slides or RNA; a data module of the user's own is asked for `patients("test")` if it has that.

    Args:
        checkpoint: Path, for messages.
        fitted: What was fitted with the checkpoint's model.
        allowed: Whether training patients may be tested.
        names_fold: Whether the user typed a fold.

    Attributes:
        seen: The training patients among those tested.
        of: How many patients are tested.
    """

    def __init__(self, checkpoint: str, fitted: Mapping[str, Any], allowed: bool, names_fold: bool):
        self.checkpoint, self.fitted, self.allowed, self.names_fold = checkpoint, fitted, allowed, names_fold
        self.seen: list[str] = []
        self.of = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Called when the data module has been set up, and before the model is.

        Raises:
            InputError: There are training patients among those to test, and they are not allowed.
        """
        data = trainer.datamodule
        if stage not in ("test", "predict") or not hasattr(data, "patients"):
            return
        if not self.fitted.get("patients"):
            _warn(
                f"{self.checkpoint} does not say which patients it was trained on, so some of them may be "
                "among those tested; the figures are honest only if none is"
            )
            return
        patients, cohort = data.patients("test"), getattr(data, "cohort", None)
        table = patients if cohort is None else list(cohort.clinical.patients.index)
        self.of, self.seen = len(patients), patients_seen(patients, table, self.fitted)
        if not self.seen:
            return
        if stage == "test" and not self.allowed:
            raise InputError(f"{self.checkpoint}: {self._count()}; {self._remedy(cohort)}")
        if stage == "predict":
            _warn(f"{self.checkpoint}: {self._count()}; their predictions look better than those of new patients would")

    def _count(self) -> str:
        named = ", ".join(self.seen[:NAMED]) + (", …" if len(self.seen) > NAMED else "")
        return (
            f"{len(self.seen)} of the {self.of} patients to test were in the training or inner validation of this model "
            f"({named})"
        )

    def _remedy(self, cohort: Cohort | None) -> str:
        return (
            f"{_fold_remedy(cohort, self.fitted, self.names_fold)}; or test another cohort, or give "
            "--allow-training-patients for figures that do not tell how the model does on new patients"
        )


def _fold_remedy(cohort: Cohort | None, fitted: Mapping[str, Any], names_fold: bool) -> str:
    """Why these patients were taken, and what would have taken others."""
    if cohort is None or cohort.split is None:
        if isinstance(fold := fitted.get("fold"), int):
            return (
                f"the config names no split, so all patients are tested: give data.split as the model had it, and "
                f"--data.fold {fold}, which it was trained without"
            )
        return "the config names no split, so all patients are tested: leave these out of the clinical table"
    table = list(cohort.clinical.patients.index)
    clean = [k for k, fold in sorted(cohort.split.folds.items()) if not patients_seen(fold.test, table, fitted)]
    typed = "" if names_fold else ", since no --data.fold was typed"
    taken = f"fold {cohort.fold} of data.split is tested{typed}"
    if clean:
        return f"{taken}: give --data.fold {clean[0]}, whose patients the model has not seen"
    return f"{taken}, and the model has seen patients of every fold: give the split that it was trained with"


@rank_zero_only
def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)
