"""Fits the models of a cross-validation, fold by fold; finished models are never fitted again."""

from __future__ import annotations

import copy
import multiprocessing
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dmml._version import __version__
from dmml.atomic_files import write_json
from dmml.data.fitting import check_outcome
from dmml.evaluation.predictions import write_table
from dmml.experiment.child_process import end_with_parent
from dmml.experiment.crossval.fit import (
    build,
    build_data,
    fit_network,
    model_section,
    predict_fold,
    trainer_section,
)
from dmml.experiment.crossval.fold_data import FoldData
from dmml.experiment.crossval.linear_models import PredictionRows, predict_joined, predict_linear
from dmml.experiment.crossval.models import JOINED, LINEAR
from dmml.experiment.crossval.plan import Plan, Unit
from dmml.experiment.crossval.teachers import LearnFrom, parts_of, same_outputs, without
from dmml.tasks import Task
from dmml.training.library_warnings import silence_library_warnings


class Runner:
    """One process that fits folds.

    Args:
        plan: The plan of the cross-validation.
    """

    def __init__(self, plan: Plan):
        self.plan = plan
        silence_library_warnings()

    @cached_property
    def data(self) -> FoldData:
        """The data module of all folds; its tables are read when the first model needs them."""
        return build_data(self.plan.data)

    def check(self) -> None:
        """Build each missing network once, so that a mistake in a config is found before an hour of fitting."""
        for name in self.plan.missing():
            if name in ("teacher", "student", "student_undistilled"):
                build(*self._sections(name, self.plan.out, Path("unbuilt")))
            elif _is_light(name):
                self._unfitted.regression()  # refused if the task has none

    def run(self, only_fold: int | None = None) -> None:
        """Fit what is not finished."""
        units = list(self.plan.units(only_fold))
        for unit in units:
            for name in self.plan.models:
                place = self.plan.place(unit, name)
                if (place / "done.json").is_file():
                    continue
                started = time.monotonic()
                line = self._line(unit, name)
                self._turn(unit)
                if not _is_light(name):
                    print(line, flush=True)
                self._fit(unit, name, place)
                print(f"{line} · {time.monotonic() - started:.1f} s", flush=True)

    def _line(self, unit: Unit, name: str) -> str:
        order = f"fold {self.plan.folds.index(unit.fold) + 1}/{len(self.plan.folds)}"
        more = [f"repeat {unit.repeat + 1}/{self.plan.repeats}"] if self.plan.repeats > 1 else []
        more += [f"seed {unit.seed + 1}/{self.plan.seeds}"] if self.plan.seeds > 1 else []
        return " · ".join([*more, order, name])

    def _turn(self, unit: Unit) -> None:
        first = self.data.read()
        split = self.plan.split_of(unit.repeat, self.data.cohort.clinical, first)
        seed = self.plan.seed_of(unit, "order")  # every model gets the same batches
        self.data.turn_to(split, unit.fold, unit.repeat, seed)

    def _sections(self, name: str, folder: Path, teacher: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        own = self.plan.student_trainer if name.startswith("student") else self.plan.trainer
        model = model_section(name, self.plan.model, self.plan.student, teacher)
        return model, trainer_section(own, name, folder, self.plan.device)

    @cached_property
    def _unfitted(self) -> Task:
        """The config's task, before it is fitted."""
        module, _ = build(model_section("rna_network", self.plan.model, None, None), {"logger": False})
        return module.task

    def _task(self) -> Task:
        """Return the config's task, fitted on the fold's training patients."""
        task = copy.deepcopy(self._unfitted)
        check_outcome(task, self.data)
        task.fit(self.data.training_outcome())
        return task

    def _fit(self, unit: Unit, name: str, place: Path) -> None:
        """Fit one model in a temporary folder beside its final one, and move it when it is complete."""
        part = place.with_name(f".{name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        seed = self.plan.seed_of(unit, name)
        if _is_light(name):
            task = self._task()
            if name.endswith(JOINED):
                folders = (self.plan.place(unit, other) for other in (name.removesuffix(JOINED), "clinical"))
                inner, outer, fitted = predict_joined(*folders, self.data, task)
            else:
                inner, outer, fitted = predict_linear(name, self.data, task, str(unit))
            fitted = self.data.fitted({}) | fitted
        else:
            teacher = self.plan.place(unit, "teacher") / "checkpoints" / "best.ckpt"
            batch_size = self.plan.student_batch_size if name.startswith("student") else None
            self.data.batch_size = batch_size or self.plan.data.get("batch_size", 8)
            learn = [self._cross_fit(unit, teacher)] if name == "student" and self.plan.cross_fit else []
            sections = self._sections(name, part, teacher)
            module, trainer = fit_network(name, *sections, self.data, part, seed, learn)
            inner, outer = predict_fold(module, trainer, self.data)
            task, fitted = module.task, module.fitted
        self._write(part, unit, name, seed, inner, outer, task.evaluation_context(), fitted)
        shutil.rmtree(place, ignore_errors=True)  # a folder without done.json is not a result
        part.replace(place)

    def _cross_fit(self, unit: Unit, teacher: Path) -> LearnFrom:
        """Fit the teachers that each leave out a part of the training patients, unless they are finished."""
        places = []
        for i, patients in enumerate(parts_of(self.data, self.plan.seed_of(unit, "parts"))):
            name = f"teacher_without_{i}"
            place = self.plan.place(unit, name)
            places.append(place / "checkpoints" / "best.ckpt")
            if (place / "done.json").is_file():
                continue
            print(self._line(unit, name), flush=True)
            part = place.with_name(f".{name}.part")
            shutil.rmtree(part, ignore_errors=True)
            model, trainer = self._sections("teacher", part, teacher)
            seed, batch_size = self.plan.seed_of(unit, name), self.data.batch_size
            self.data.batch_size = self.plan.data.get("batch_size", 8)
            with without(self.data, patients, teacher):
                fit_network("teacher", same_outputs(model, teacher), trainer, self.data, part, seed)
            self.data.batch_size = batch_size
            write_json(
                part / "done.json", {"model": name, "unit": unit._asdict(), "seed": seed, "left_out": len(patients)}
            )
            shutil.rmtree(place, ignore_errors=True)
            part.replace(place)
        return LearnFrom(places, self.data.patients)

    def _write(
        self,
        part: Path,
        unit: Unit,
        name: str,
        seed: int,
        inner: PredictionRows,
        outer: PredictionRows,
        task: dict[str, Any],
        fitted: dict[str, Any],
    ) -> None:
        write_table(part / "inner.csv", inner)
        write_table(part / "predictions.csv", outer)
        told = (
            "horizons", "censoring", "median_risk", "chosen_epoch", "penalty", "inputs", "weight_norm", "weights", "coding",
            "hashes",
        )  # fmt: skip
        context = {"run": name, "model": name, "cohort": self.data.name, **task, "fold": str(unit)}
        context |= {key: fitted[key] for key in told if key in fitted} | {"training_cohort": self.data.name}
        counts = {each: len(self.data.patients(each)) for each in ("train", "val", "test")}
        context |= {"n_training": fitted.get("n_training", counts["train"]), "versions": {"dmml": __version__}}
        write_json(part / "context.json", context)
        write_json(part / "done.json", {"model": name, "unit": unit._asdict(), "seed": seed, "patients": counts})


def _is_light(name: str) -> bool:
    """Whether a model is a regression rather than a network."""
    return name in LINEAR or name.endswith(JOINED)


def run_side_by_side(plan: Plan, jobs: int) -> None:
    """Fit folds in separate processes, `jobs` at a time; several GPUs are assigned to the folds in turn."""
    import torch

    devices = torch.cuda.device_count()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=jobs, mp_context=context, initializer=end_with_parent) as pool:
        waiting = [
            pool.submit(_run_fold, replace(plan, device=i % devices if devices > 1 else None), fold)
            for i, fold in enumerate(plan.folds)
        ]
        for done in waiting:
            done.result()


def _run_fold(plan: Plan, fold: int) -> None:
    Runner(plan).run(fold)
