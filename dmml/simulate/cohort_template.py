"""Writes the beginning of a cohort: example tables with folds, and configs that run on them until the user replaces them."""

from __future__ import annotations

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
# The tables of this folder are an example of made-up patients. Replace them by your own, keep or rename the columns, and run
#   dmml doctor --config {out}/teacher.yaml
#   dmml crossval --config {out}/teacher.yaml --student {out}/student.yaml --out runs/{name}_cv
seed_everything: 0
model:
  class_path: {model}
  init_args:
    task: {task}
{teacher}data:
  class_path: MultimodalDataModule
  init_args:
    name: {name}
    clinical: {out}/clinical.csv          # one row per slide or per patient; any column names
    outcome: {outcome}
    covariates: [age, sex, stage]         # compared with the model, and never read by it
    expression: {out}/expression.parquet  # from `dmml cohort expression`; without this line: slides alone
    features: {out}/features.zarr         # from `dmml extract`; without this line: RNA alone
    split: {out}/split.csv                # patient_id,fold; or {{folds: 5, stratify: true, site: site}}
    fold: 0
    batch_size: 8
trainer:
  default_root_dir: runs/{run}
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
        values = {"out": _in_yaml(str(out)), "name": out.resolve().name, "task": text, "outcome": _in_yaml(outcome)}
        teacher = {"model": "SubspaceTeacher", "title": f"{task}: the teacher, slides and RNA.", "teacher": ""}
        student = {
            "model": "SubspaceStudent",
            "title": f"{task}: the student, slides alone.",
            "teacher": f"    teacher: runs/{values['name']}/checkpoints/best.ckpt  # null: no distillation\n",
        }
        for name, parts, run in (
            ("teacher", teacher, values["name"]),
            ("student", student, f"{values['name']}_student"),
        ):
            write_text(folder / f"{name}.yaml", _CONFIG.format(**values, **parts, run=run))


def _in_yaml(value: str | dict[str, str]) -> str:
    """Return a value as YAML in one line, with quotes where it needs them."""
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).splitlines()[0]
