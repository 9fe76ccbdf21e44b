"""Fits of the paper's teacher and students on slides of the demo's kind, and their cluster maps of held-out slides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from dmml.__main__ import main as dmml

CONFIGS = Path(__file__).resolve().parent.parent / "configs" / "paper"
COHORTS = ("development", "held_out")
STUDENTS = ("distilled", "undistilled")


def make_cohorts(folder: Path, patients: int, held_out: int) -> None:
    """Simulate slides and RNA, and extract them with the default encoder; what is complete is left alone."""
    run("simulate", folder, "--patients", patients, "--held-out", held_out)
    for cohort in COHORTS:
        run("extract", folder / cohort / "slides", "--out", folder / cohort / "features.zarr")
        if not (folder / cohort / "expression.parquet").is_file():
            run("cohort", "expression", folder / cohort / "rna", "--out", folder / cohort / "expression.parquet")


def run(*words: object) -> None:
    """Run a command of dmml, and stop if it fails."""
    command = [str(word) for word in words]
    print(f"dmml {' '.join(command)}"[:160], flush=True)
    if dmml(command):
        raise SystemExit(f"dmml {command[0]} failed; run the benchmark again once its message is dealt with")


def fit_models(
    cohorts: Path, folder: Path, seed: int, epochs: int, students: tuple[str, ...] = STUDENTS
) -> dict[str, Path]:
    """Fit the teacher and its students; finished fits are left alone.

    Args:
        cohorts: Folder of the development and the held-out cohort.
        folder: Folder of the fits of this seed.
        seed: Seed of weights and batches.
        epochs: Epochs of the teacher; a student warms up as long, and is then distilled as long.
        students: Which of `STUDENTS`: with the teacher, or without it.

    Returns:
        {student: its checkpoint}.
    """
    teacher = _fit(_config("survival", cohorts, folder / "teacher", seed, epochs))
    checkpoints = {}
    for name in students:
        config = _config("survival_student", cohorts, folder / name, seed, 2 * epochs)
        config["model"]["init_args"]["teacher"] = str(teacher) if name == "distilled" else None
        checkpoints[name] = _fit(config)
    return checkpoints


def _config(name: str, cohorts: Path, folder: Path, seed: int, epochs: int) -> dict[str, Any]:
    """Return a config of `configs/paper` on the simulated cohort: all its patients, and another number of epochs."""
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
    config["seed_everything"] = seed
    data, trainer, development = config["data"]["init_args"], config["trainer"], cohorts / "development"
    data |= {"name": "development", "clinical": str(development / "clinical.csv")}
    data |= {key: str(development / file) for key, file in _FILES.items()}
    for key in ("split", "fold"):  # all patients of the cohort train: those tested are in the other one
        data.pop(key, None)
    trainer |= {"default_root_dir": str(folder), "max_epochs": epochs, "enable_progress_bar": False}
    for callback in trainer["callbacks"]:
        if callback["class_path"].endswith("EarlyStopping"):
            callback["init_args"]["patience"] = epochs
    return config


_FILES = {"expression": "expression.parquet", "features": "features.zarr"}


def _fit(config: dict[str, Any]) -> Path:
    """Fit a model unless that is done, and return its checkpoint."""
    folder = Path(config["trainer"]["default_root_dir"])
    checkpoint, provenance, path = folder / "checkpoints" / "best.ckpt", folder / "provenance.json", folder / "fit.yaml"
    if provenance.is_file() and json.loads(provenance.read_text(encoding="utf-8")).get("finished"):
        if path.is_file() and yaml.safe_load(path.read_text(encoding="utf-8")) == config:
            return checkpoint
        raise SystemExit(f"{folder} holds a fit with other settings; name another folder with --work")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    run("fit", "--config", path, "--resume")
    return checkpoint


def map_slides(slides: Path, checkpoint: Path, out: Path) -> None:
    """Map the held-out slides as a user does, with `dmml predict-slide`; slides that have an answer are left out."""
    missing = [path for path in sorted(slides.glob("*.tif")) if not (out / path.stem / "tiles.csv").is_file()]
    if missing:
        run("predict-slide", *missing, "--ckpt_path", checkpoint, "--out", out, "--overwrite")
