"""Writes the beginning of a cohort: example tables with folds, and configs that run on them until the user replaces them."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import yaml

from dmml.atomic_files import atomic_folder, write_text
from dmml.cohort.clinical.table import read_clinical
from dmml.cohort.splits.make_folds import make_folds
from dmml.simulate.settings import SimulationSettings
from dmml.simulate.simulation import simulate

PATIENTS, FOLDS = 60, 5
TASKS: dict[str, tuple[str, dict[str, str]]] = {
    "survival": (
        "{class_path: Survival, init_args: {n_intervals: 4}}",
        {"time": "os_days", "event": "os_event", "unit": "days"},
    ),
    "classification": (
        "{class_path: Classification, init_args: {class_weights: balanced}}",
        {"label": "grade"},
    ),
    "regression": (
        "{class_path: Regression, init_args: {name: molecular score}}",
        {"value": "molecular_score"},
    ),
}
"""{name of a task: (the task in a config, the columns of its outcome in the example)}"""
_FILES = ("clinical.csv", "expression.parquet", "features.zarr")
_CONFIG = """\
# {title}
# The tables of this folder are an example of made-up patients. Name your own tables and columns below, and run
{commands}
seed_everything: 0
model:
  class_path: {model}
  init_args:
    task: {task}
{teacher}data:
  class_path: MultimodalDataModule
  init_args:
    name: {name}
    clinical: {clinical}          # one row per slide or per patient
    patient_id: patient_id                # its columns may have any names
    slide_id: slide_id                    # without this column in the table, slides are named after patients
    outcome: {outcome}
    covariates: [age, sex, stage]         # compared with the model, and never read by it
    expression: {expression}  # from `dmml cohort expression`; without this line: slides alone
    features: {features}         # from `dmml extract`; without this line: RNA alone
    split: {split}                # patient_id,fold; or {{folds: 5, stratify: true, site: site}}
    fold: 0
    batch_size: 8
trainer:
  default_root_dir: {run}
  max_epochs: 50
  gradient_clip_val: 1.0
"""


def write_template(out: Path, task: str) -> None:
    """Write a folder with example tables, a split, and a teacher's and a student's config.

    Args:
        out: The folder, which is written completely or not at all.
        task: Key of `TASKS`.
    """
    text, outcome = TASKS[task]
    with atomic_folder(out) as folder:
        simulated = folder / "simulated"
        simulate(SimulationSettings(simulated, PATIENTS, held_out=1, features_only=True, dim=32, cells=(3, 5)))
        for name in _FILES:
            shutil.move(simulated / "development" / name, folder / name)
        shutil.rmtree(simulated)
        clinical = read_clinical(folder / "clinical.csv", outcome=outcome)
        write_text(folder / "split.csv", make_folds(clinical, FOLDS, stratify=True).to_csv())
        name = out.resolve().name
        values = {
            "commands": _commands(out),
            "name": _in_yaml(name),
            "task": text,
            "outcome": _in_yaml(outcome),
            **{file.partition(".")[0]: _in_yaml(f"{out}/{file}") for file in (*_FILES, "split.csv")},
        }
        checkpoint = _in_yaml(f"runs/{name}/checkpoints/best.ckpt")
        teacher = {"model": "SubspaceTeacher", "title": f"{task}: the teacher, slides and RNA.", "teacher": ""}
        student = {
            "model": "SubspaceStudent",
            "title": f"{task}: the student, slides alone.",
            "teacher": f"    teacher: {checkpoint}  # null: no distillation\n",
        }
        for file, parts, run in (("teacher", teacher, name), ("student", student, f"{name}_student")):
            write_text(folder / f"{file}.yaml", _CONFIG.format(**values, **parts, run=_in_yaml(f"runs/{run}")))


def next_commands(out: Path) -> list[str]:
    """Commands that run on the template in a folder, and on a user's own tables later."""
    teacher, student = (shlex.quote(f"{out}/{name}.yaml") for name in ("teacher", "student"))
    crossval = shlex.quote(f"runs/{out.resolve().name}_cv")
    return [
        f"dmml doctor --config {teacher}",
        f"dmml crossval --config {teacher} --student {student} --out {crossval}",
    ]


def _commands(out: Path) -> str:
    return "\n".join(f"#   {command}" for command in next_commands(out))


def _in_yaml(value: str | dict[str, str]) -> str:
    """Return a value as YAML in one line, with quotes where it needs them."""
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).splitlines()[0]
