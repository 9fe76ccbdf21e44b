"""Fits the models of a cross-validation, fold by fold; finished models are never fitted again."""

from __future__ import annotations

import copy
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import LightningModule, Trainer

from dmml._version import __version__
from dmml.atomic_files import write_json
from dmml.data.data_config import Loading
from dmml.data.fitted_model import FittedModel
from dmml.data.fitting import check_outcome
from dmml.evaluation.predictions import write_table
from dmml.experiment.crossval.fit import (
    build,
    build_data,
    fit_network,
    model_section,
    predict_fold,
    trainer_section,
)
from dmml.experiment.crossval.fold_data import FoldData
from dmml.experiment.crossval.linear_models import predict_joined, predict_linear
from dmml.experiment.crossval.models import JOINED, LINEAR
from dmml.experiment.crossval.plan import CrossvalPlan, FoldRun
from dmml.experiment.crossval.teachers import LearnFrom, parts_of, same_outputs, without
from dmml.experiment.patient_flow import OF_A_FOLD, patient_flow
from dmml.tasks import Task
from dmml.training.library_warnings import silence_library_warnings

LOGGER = logging.getLogger(__name__)
CONTEXT_KEYS = (
    "horizons",
    "censoring",
    "median_risk",
    "chosen_epoch",
    "penalty",
    "inputs",
    "weight_norm",
    "weights",
    "coding",
    "hashes",
)
"""What `context.json` keeps of the fitted quantities, where a model has them"""


class FoldRunner:
    """One process that fits folds.

    Args:
        plan: The plan of the cross-validation.
    """

    def __init__(self, plan: CrossvalPlan):
        self.plan = plan
        silence_library_warnings()

    @cached_property
    def data(self) -> FoldData:
        """The data module of all folds; its tables are read when the first model needs them."""
        return build_data(self.plan.data)

    def check(self) -> None:
        """Build each missing network once, so that a mistake in a config is found before an hour of fitting."""
        for name in self.plan.missing():
            if name in ("teacher", "student", "student_undistilled", *self.plan.baselines):
                build(*self._sections(name, self.plan.out, Path("unbuilt")))
            elif _is_linear(name):
                self._unfitted.regression()  # refused if the task has none

    def run(self, only_fold: int | None = None) -> None:
        """Fit what is not finished."""
        for run in self.plan.fold_runs(only_fold):
            for name in self.plan.models:
                folder = self.plan.model_folder(run, name)
                if (folder / "done.json").is_file():
                    continue
                started = time.monotonic()
                line = self._progress_line(run, name)
                self._turn_to(run)
                if not _is_linear(name):
                    LOGGER.info(line)
                self._fit(run, name, folder)
                LOGGER.info("%s · %.1f s", line, time.monotonic() - started)

    def _progress_line(self, run: FoldRun, name: str) -> str:
        fold = f"fold {self.plan.folds.index(run.fold) + 1}/{len(self.plan.folds)}"
        more = [f"repeat {run.repeat + 1}/{self.plan.repeats}"] if self.plan.repeats > 1 else []
        more += [f"seed {run.seed + 1}/{self.plan.seeds}"] if self.plan.seeds > 1 else []
        return " · ".join([*more, fold, name])

    def _turn_to(self, run: FoldRun) -> None:
        first = self.data.read()
        split = self.plan.split_of(run.repeat, self.data.cohort.clinical, first)
        seed = self.plan.seed_of(run, "order")  # every model gets the same batches
        self.data.turn_to(split, run.fold, run.repeat, seed)

    def _sections(self, name: str, folder: Path, teacher: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        trainer = self.plan.student_trainer if name.startswith("student") else self.plan.trainer
        model = model_section(name, self.plan.model, self.plan.student, teacher, self.plan.network_of(name))
        return model, trainer_section(trainer, name, folder, self.plan.device)

    @cached_property
    def _unfitted(self) -> Task:
        """The config's task, before it is fitted."""
        module, _ = build(model_section("rna_network", self.plan.model, None, None), {"logger": False})
        return cast(FittedModel, module).task

    def _task(self) -> Task:
        """Return the config's task, fitted on the fold's training patients."""
        task = copy.deepcopy(self._unfitted)
        check_outcome(task, self.data)
        task.fit(self.data.training_outcome())
        return task

    def _fit(self, run: FoldRun, name: str, folder: Path) -> None:
        """Fit one model in a temporary folder beside its final one, and move it when it is complete."""
        with _complete_folder(folder) as partial:
            if name.endswith(JOINED):
                of_model, of_clinical = (
                    self.plan.model_folder(run, part) for part in (name.removesuffix(JOINED), "clinical")
                )
                task = self._task()
                inner, outer, fitted = predict_joined(of_model, of_clinical, self.data, task)
                fitted = self.data.fitted({}) | fitted
            elif _is_linear(name):
                task = self._task()
                inner, outer, fitted = predict_linear(name, self.data, task, str(run))
                fitted = self.data.fitted({}) | fitted
            else:
                module, trainer = self._fit_network(run, name, partial)
                inner, outer = predict_fold(module, trainer, self.data)
                model = cast(FittedModel, module)
                task, fitted = model.task, model.fitted
            write_table(partial / "inner.csv", inner)
            write_table(partial / "predictions.csv", outer)
            self._write_records(partial, run, name, task.evaluation_context(), fitted)

    def _fit_network(self, run: FoldRun, name: str, folder: Path) -> tuple[LightningModule, Trainer]:
        """Fit a network with the batches of its config; a student may learn from cross-fitted teachers."""
        teacher = self._best(run, "teacher")
        batch_size = self.plan.student_batch_size if name.startswith("student") else None
        self.data.batch_size = batch_size or self._teacher_batch_size
        callbacks = [self._cross_fit(run, teacher)] if name == "student" and self.plan.cross_fit else []
        model, trainer = self._sections(name, folder, teacher)
        return fit_network(name, model, trainer, self.data, folder, self.plan.seed_of(run, name), callbacks)

    def _cross_fit(self, run: FoldRun, teacher: Path) -> LearnFrom:
        """Fit the teachers that each leave out a part of the training patients, unless they are finished."""
        checkpoints = []
        for i, patients in enumerate(parts_of(self.data, self.plan.seed_of(run, "parts"))):
            name = f"teacher_without_{i}"
            folder = self.plan.model_folder(run, name)
            checkpoints.append(self._best(run, name))
            if (folder / "done.json").is_file():
                continue
            LOGGER.info(self._progress_line(run, name))
            with _complete_folder(folder) as partial:
                model, trainer = self._sections("teacher", partial, teacher)
                seed, batch_size = self.plan.seed_of(run, name), self.data.batch_size
                self.data.batch_size = self._teacher_batch_size
                with without(self.data, patients, teacher):
                    fit_network("teacher", same_outputs(model, teacher), trainer, self.data, partial, seed)
                self.data.batch_size = batch_size
                record = {"model": name, "unit": run._asdict(), "seed": seed, "left_out": len(patients)}
                write_json(partial / "done.json", record)
        return LearnFrom(checkpoints, self.data.patients)

    def _best(self, run: FoldRun, name: str) -> Path:
        return self.plan.model_folder(run, name) / "checkpoints" / "best.ckpt"

    @property
    def _teacher_batch_size(self) -> int:
        return self.plan.data.get("batch_size", Loading.batch_size)

    def _write_records(
        self, folder: Path, run: FoldRun, name: str, task: dict[str, Any], fitted: Mapping[str, Any]
    ) -> None:
        """Write what the evaluation needs to know of the fit, and at last the file that says that it is finished."""
        context = {"run": name, "model": name, "cohort": self.data.name, **task, "fold": str(run)}
        context |= {key: fitted[key] for key in CONTEXT_KEYS if key in fitted} | {"training_cohort": self.data.name}
        counts = {part: len(self.data.patients(part)) for part in ("train", "val", "test")}
        context |= {"flow": patient_flow(self.data, OF_A_FOLD)}
        context |= {"n_training": fitted.get("n_training", counts["train"]), "versions": {"dmml": __version__}}
        write_json(folder / "context.json", context)
        seed = self.plan.seed_of(run, name)
        network = {"network": self.plan.network_of(name)} if name in self.plan.baselines else {}
        record = {"model": name, **network, "unit": run._asdict(), "seed": seed, "patients": counts}
        write_json(folder / "done.json", record)


def _is_linear(name: str) -> bool:
    """Whether a model is a regression rather than a network."""
    return name in LINEAR or name.endswith(JOINED)


@contextmanager
def _complete_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder, and move it to `folder` if the block ends without an error."""
    partial = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    shutil.rmtree(folder, ignore_errors=True)  # a folder without done.json is not a result
    partial.replace(folder)
