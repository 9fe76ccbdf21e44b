"""Cells of the worlds: one model on one world, number of patients and seed, each kept in a small JSON file.

    WORK/<world>/<patients>/<seed>/<model>.json     risks of the tested patients, in the order of truth.json
    WORK/<world>/<patients>/<seed>/truth.json       their outcomes, oracles and the factors of the world
    WORK/<world>/<patients>/<seed>/checkpoints/     teachers, for their students

Files are written completely or not at all, so a run after a kill repeats only the interrupted cell.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from worlds_data import Setup, read_world
from worlds_networks import NETWORKS, TEACHING, checkpoint_of, predict_network
from worlds_references import REFERENCES, predict_reference

import dmml
from dmml.evaluation.metrics import concordance_index

MODELS = (*REFERENCES, *NETWORKS)
"""All models in the order of fitting"""
MEMORY = Path("/dev/shm")
"""A folder in memory if the system has one, otherwise the folder for temporary files"""
_CODE_OF = (
    "backbone",
    "linear",
    "nn",
    "functional",
    "tasks",
    "data",
    "training",
    "callbacks",
    "experiment",
    "simulate",
)


@dataclass(frozen=True)
class Group:
    """Properties that the cells of one simulated cohort share."""

    world: str
    patients: int
    """Number of training and inner validation patients together"""
    seed: int

    def folder(self, work: Path) -> Path:
        """Folder of the group's results."""
        return work / self.world / str(self.patients) / str(self.seed)


def code_state() -> str:
    """Short hash of the modules that determine the result of a cell."""
    package = Path(dmml.__file__).parent
    files = sorted(path for name in _CODE_OF for path in (package / name).rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


CODE = code_state()
"""State of the code when this module was imported"""


def with_teachers(models: Sequence[str]) -> list[str]:
    """The models and their teachers, in the order of fitting."""
    wanted = set(models)
    while more := {other for name in wanted if name in NETWORKS for other in NETWORKS[name].needs} - wanted:
        wanted |= more
    return [name for name in MODELS if name in wanted]


def is_done(group: Group, model: str, setup: Setup, work: Path) -> bool:
    """Whether a cell of this setup is kept, with the checkpoint that other cells need."""
    path = group.folder(work) / f"{model}.json"
    if not path.is_file() or json.loads(path.read_text(encoding="utf-8"))["setup"] != asdict(setup):
        return False
    return model not in TEACHING or checkpoint_of(model, group.folder(work) / "checkpoints").is_file()


def run_group(
    group: Group, models: Sequence[str], setup: Setup, work: Path, after: Callable[[dict[str, Any]], None] | None = None
) -> None:
    """Fit the models of a group that are not kept yet; each is kept as soon as it is done.

    Args:
        group: The cohort.
        models: Models in the order of fitting, including teachers.
        setup: Settings that all cells share.
        work: Folder of kept results.
        after: Called with each new result.
    """
    torch.set_num_threads(1)
    missing = [model for model in models if not is_done(group, model, setup, work)]
    if not missing:
        return
    folder = group.folder(work)
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (folder / "checkpoints").glob(".fit_*"):
        shutil.rmtree(stale)
    with _cohort_folder(folder) as cohorts:
        world = read_world(group.world, group.patients, group.seed, setup, cohorts)
        write_json(folder / "truth.json", world.record())
        for model in missing:
            began = time.process_time()
            if model in REFERENCES:
                risk, facts = predict_reference(model, world)
            else:
                risk, facts = predict_network(model, world, group.seed, setup, folder / "checkpoints")
            outcome = (world.truth[name].to_numpy(float) for name in ("time", "event"))
            result = {
                **asdict(group),
                "model": model,
                "setup": asdict(setup),
                "code": CODE,
                "seconds": round(time.process_time() - began, 2),
                "facts": facts,
                "c_index": float(concordance_index(*outcome, risk)),
                "risk": risk.tolist(),
            }
            write_json(folder / f"{model}.json", result)
            if after is not None:
                after(result)


@contextlib.contextmanager
def _cohort_folder(folder: Path) -> Iterator[Path]:
    """Temporary folder for the simulated cohort of a group; remains of a killed run are removed first.

    A feature store waits for the disk after every slide, which these cohorts, needed for minutes, avoid in memory.
    """
    parent = MEMORY if os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    cohorts = parent / f"dmml_world_{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]}"
    shutil.rmtree(cohorts, ignore_errors=True)
    try:
        cohorts.mkdir()
        yield cohorts
    finally:
        shutil.rmtree(cohorts, ignore_errors=True)


def kept_results(work: Path, setup: Setup) -> dict[Group, dict[str, dict[str, Any]]]:
    """{group: {model: result}} of all kept results of this setup, whichever run made them."""
    results: dict[Group, dict[str, dict[str, Any]]] = {}
    for path in sorted(work.glob("*/*/*/*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        if path.name != "truth.json" and result["setup"] == asdict(setup) and result["model"] in MODELS:
            group = Group(result["world"], result["patients"], result["seed"])
            results.setdefault(group, {})[result["model"]] = result
    return results


def kept_truth(group: Group, work: Path) -> dict[str, list[float]]:
    """Outcomes, oracles and factors of the tested patients of a group."""
    return json.loads((group.folder(work) / "truth.json").read_text(encoding="utf-8"))


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file completely or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(value, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(partial, path)
