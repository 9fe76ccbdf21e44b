"""Nested cross-validation of teacher, student and baselines on the same folds, resumable, with paired statistics."""

from __future__ import annotations

import argparse
import logging
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmml.errors import InputError
from dmml.writable import check_writable

if TYPE_CHECKING:
    from dmml.experiment.crossval.plan import CrossvalPlan

LOGGER = logging.getLogger(__name__)
NOT_COMPARED = ("name", "fold", "magnifications", "standardise", "recalibrate")
"""Arguments of a cohort in which a student's config may differ from the teacher's; the others choose the patients"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--config", "-c", action="append", required=True, help="config of a teacher's `dmml fit`; may be repeated"
    )
    parser.add_argument(
        "--student", help="config of a student's `dmml fit` (default: a student as wide as the teacher)"
    )
    parser.add_argument("--out", type=Path, help="folder of the results (default: <default_root_dir>_crossval)")
    parser.add_argument("--seeds", type=int, default=1, help="fits of each network per fold (default: 1)")
    parser.add_argument(
        "--repeats", type=int, default=1, help="how often the patients are divided into folds anew (default: 1)"
    )
    parser.add_argument("--models", help="names, separated by commas (default: all that the data allow)")
    parser.add_argument(
        "--baselines",
        metavar="[NAME=]PATH",
        help="baselines to be fitted as well, separated by commas: transmil, mcat, or the class path of your own network "
        "(docs/extending.md)",
    )
    parser.add_argument(
        "--cross-fit",
        action="store_true",
        help="students learn from teachers that did not see the patient: three more teachers per fold",
    )
    parser.add_argument("--only-fold", type=int, metavar="K", help="fit only this fold, e.g. in a job array")
    parser.add_argument(
        "--collect", action="store_true", help="fit nothing; evaluate what is finished, and list what is missing"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, help="folds fitted at the same time, each in a process of its own (default: 1)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a cross-validation that is in the folder")


def run(args: argparse.Namespace) -> None:
    """Check the input, fit what is not finished, evaluate, and print the tables."""
    plan = make_plan(args)
    if args.collect and not (plan.out / "plan.json").is_file():
        raise InputError(f"{plan.out}: holds no cross-validation to collect; run it without --collect first")
    check_writable(plan.out, "name another folder with --out")
    plan.claim(args.overwrite)
    from dmml.evaluation.crossval.report import write_crossval_report
    from dmml.experiment.crossval.crossval import collect, fit

    if not args.collect:
        fit(plan, args.only_fold, args.jobs)
    if args.only_fold is None:
        LOGGER.info(collect(plan, command(args)))
        LOGGER.info("%s", write_crossval_report(plan.out))
    else:
        LOGGER.info(
            "%s: fold %d is finished; once all folds are, run dmml crossval … --collect", plan.out, args.only_fold
        )


def command(args: argparse.Namespace) -> str:
    """The command that reproduces a cross-validation, without the options that only say which folds run where."""
    words = ["dmml", "crossval", *(word for path in args.config for word in ("--config", path))]
    for option in ("student", "models", "baselines", "out"):
        if (value := getattr(args, option)) is not None:
            words += [f"--{option}", str(value)]
    for option in ("seeds", "repeats"):
        if getattr(args, option) > 1:
            words += [f"--{option}", str(getattr(args, option))]
    return shlex.join([*words, "--cross-fit"] if args.cross_fit else words)


def make_plan(args: argparse.Namespace) -> CrossvalPlan:
    """Check options, configs and tables before anything heavy is imported, and make the plan."""
    from dmml.commands.config.reading import init_args
    from dmml.experiment.crossval.models import (
        check_model_names,
        explain_left_out,
        needs_of,
        parse_baselines,
        select_models,
    )

    _check_options(args)
    requested = [name.strip() for name in args.models.split(",") if name.strip()] if args.models else None
    baselines = parse_baselines(args.baselines or "")
    check_model_names(requested or [], baselines)
    config = _read(args.config)
    data = dict(init_args(config["data"]))
    student = _check_sections(config, _read([args.student]) if args.student else None, data)
    named = {"RNA": data.get("expression"), "slides": data.get("features"), "covariates": data.get("covariates")}
    available = {kind for kind, value in named.items() if value}
    models = select_models(requested, available, needs_of(baselines))
    if args.cross_fit and "student" not in models:
        raise InputError(
            "--cross-fit: no student is among the models; it needs RNA and slides, or leave the option out"
        )
    folds = _fold_numbers(args, data)
    if requested is None and (left_out := explain_left_out(available)):
        LOGGER.info("left out: %s", left_out)
    from dmml.experiment.crossval.plan import CrossvalPlan

    trainer = config.get("trainer") or {}
    root = trainer.get("default_root_dir") or f"runs/{data.get('name') or Path(data['clinical']).resolve().parent.name}"
    seed = config.get("seed_everything")
    return CrossvalPlan(
        out=args.out or Path(f"{root}_crossval"),
        model=config["model"],
        student=student["model"] if student else None,
        data=data | {"fold": folds[0]},
        trainer=trainer,
        student_trainer=(student.get("trainer") or {}) if student else trainer,
        student_batch_size=init_args(student["data"]).get("batch_size") if student else None,
        models=models,
        baselines=baselines,
        folds=folds,
        seeds=args.seeds,
        repeats=args.repeats,
        cross_fit=args.cross_fit,
        base_seed=seed if isinstance(seed, int) and not isinstance(seed, bool) else 0,
    )


def _check_options(args: argparse.Namespace) -> None:
    for option in ("seeds", "repeats", "jobs"):
        if getattr(args, option) < 1:
            raise InputError(f"--{option}: {getattr(args, option)} is too small; give 1 or more")
    if args.collect and args.only_fold is not None:
        raise InputError("--collect gathers all folds; leave out --only-fold")
    if args.jobs > 1 and args.only_fold is not None:
        raise InputError(
            f"--jobs: {args.jobs} processes cannot share the one fold of --only-fold; leave out either option"
        )


def _read(paths: Sequence[str]) -> dict[str, Any]:
    """Read a config with the checks of `dmml fit`, except for what each fold sets: the run folder and the teacher."""
    from dmml.commands.config.mistakes import check_arguments
    from dmml.commands.config.preflight import check
    from dmml.commands.config.reading import class_name, init_args

    words = [word for path in paths for word in ("--config", str(path))]
    config = check(["fit", *words, "--model.teacher", "null", "--overwrite"], writes=False).config
    if class_name(config["model"]) != "SubspaceStudent":
        init_args(config["model"]).pop("teacher", None)
    check_arguments(config)
    return config


def _fold_numbers(args: argparse.Namespace, data: dict[str, Any]) -> list[int]:
    """Return the numbers of the folds; a data section that names no split gets the default one."""
    from dmml.cohort.section import read_cohort
    from dmml.experiment.crossval.plan import FOLDS

    fold = data.get("fold", 0) if data.get("split") else 0
    data["split"] = data.get("split") or FOLDS
    if args.repeats > 1 and not isinstance(data["split"], dict):
        raise InputError(
            f"--repeats: {data['split']} is one division into folds; give data.split as {{folds: 5}} to repeat it"
        )
    # The RNA was read when the config was checked, and the folds do not depend on it.
    without_rna = {"expression": None, "features": data.get("features") or data["clinical"], "fold": fold}
    split = read_cohort(data | without_rna).split
    folds = sorted(split.folds) if split is not None else []
    if args.only_fold is not None and args.only_fold not in folds:
        raise InputError(f"--only-fold: there is no fold {args.only_fold}; give one of {', '.join(map(str, folds))}")
    return folds


def _check_sections(
    config: dict[str, Any], student: dict[str, Any] | None, data: dict[str, Any]
) -> dict[str, Any] | None:
    """Refuse sections that cannot be cross-validated together; return the student's config, from either option."""
    from dmml.cohort.cohort_config import CohortConfig
    from dmml.commands.config.reading import class_name, init_args

    data_class = class_name(config["data"], "MultimodalDataModule")
    if data_class != "MultimodalDataModule":
        raise InputError(
            f"data: crossval divides patients into folds through MultimodalDataModule, not through {data_class}; name it"
        )
    if not data.get("outcome"):
        raise InputError(
            f"{data['clinical']}: data.outcome names no column to learn; give {{time, event, unit}}, {{label}} or {{value}}"
        )
    if class_name(config["model"]) == "SubspaceStudent":
        if student is not None or data.get("expression"):
            raise InputError("--config names a student; give the teacher's config there, and this one as --student")
        student = config
    elif student is not None and class_name(student["model"]) != "SubspaceStudent":
        raise InputError(f"--student names a {class_name(student['model'])}; give the config of a SubspaceStudent")
    if student:
        of_teacher, of_student = (
            CohortConfig.from_section(one).section() for one in (data, init_args(student["data"]))
        )
        for key, value in of_teacher.items():
            if key not in NOT_COMPARED and of_student[key] != value:
                raise InputError(
                    f"--student: data.{key} is {of_student[key]}, but {value} in --config; both must name the same patients"
                )
    return student
