"""Cells of the worlds: one model on one world, number of patients and seed, each kept in a small JSON file.

    WORK/<world>/<patients>/<seed>/<model>.json     risks of the tested patients, in the order of truth.json
    WORK/<world>/<patients>/<seed>/truth.json       their outcomes, oracles and the factors of the world
    WORK/shared/<patients>/<seed>/ceilings.json     how much of the factors slides show at most
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from process_memory import peak_above
from worlds_data import Setup, WorldData, read_world
from worlds_factors import ceilings
from worlds_networks import FACTORS_IN, NETWORKS, Network, checkpoint_of, predict_network
from worlds_references import REFERENCES, predict_reference

import dmml
from dmml.evaluation.metrics import concordance_index

MODELS = (*REFERENCES, *NETWORKS)
"""The references and the networks of `worlds_networks` in the order of fitting"""
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


def with_teachers(models: Sequence[str], networks: Mapping[str, Network] = NETWORKS) -> list[str]:
    """The models and their teachers, in the order of fitting."""
    wanted = set(models)
    while more := {other for name in wanted if name in networks for other in networks[name].needs} - wanted:
        wanted |= more
    return [name for name in (*REFERENCES, *networks) if name in wanted]


def missing_cells(
    group: Group, models: Sequence[str], setup: Setup, work: Path, networks: Mapping[str, Network] = NETWORKS
) -> list[str]:
    """The models to fit, in their order: those without a kept result of this setup and definition, and their teachers.

    A teacher with a kept result is fitted again if its checkpoint is lost and a student still needs it.
    """
    folder = group.folder(work)
    lost: set[str] = set()
    for model in reversed(models):  # students come after their teachers
        path = folder / f"{model}.json"
        kept = path.is_file() and _is_current(json.loads(path.read_text(encoding="utf-8")), setup, networks)
        needed = any(model in networks[other].needs for other in lost if other in networks)
        if not kept or (needed and not checkpoint_of(model, folder / "checkpoints").is_file()):
            lost.add(model)
    return [model for model in models if model in lost]


def _is_current(result: dict[str, Any], setup: Setup, networks: Mapping[str, Network]) -> bool:
    """Whether a result has this setup, and the present definition of its network."""
    network = networks.get(result["model"])
    defined = None if network is None else network.digest(networks)
    return result["setup"] == asdict(setup) and result["definition"] == defined


def run_group(
    group: Group,
    models: Sequence[str],
    setup: Setup,
    work: Path,
    after: Callable[[dict[str, Any]], None] | None = None,
    networks: Mapping[str, Network] = NETWORKS,
) -> dict[str, str]:
    """Fit the models of a group that are not kept yet; each is kept as soon as it is done.

    Args:
        group: The cohort.
        models: Models in the order of fitting, including teachers.
        setup: Settings that all cells share.
        work: Folder of kept results.
        after: Called with each new result.
        networks: All networks by name.

    Returns:
        {model: the exception that ended it}; the models that need its checkpoint are named as well.
    """
    torch.set_num_threads(1)
    missing = missing_cells(group, models, setup, work, networks)
    if not missing:
        return {}
    folder = group.folder(work)
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (folder / "checkpoints").glob(".fit_*"):
        shutil.rmtree(stale)
    failed: dict[str, str] = {}
    with _cohort_folder(folder) as cohorts:
        world = read_world(group.world, group.patients, group.seed, setup, cohorts)
        write_json(folder / "truth.json", world.record())
        if world.world == FACTORS_IN:
            write_json(folder / "ceilings.json", ceilings(world))
        for model in missing:
            if needed := failed.keys() & (networks[model].needs if model in networks else set()):
                failed[model] = f"needs {', '.join(needed)}"
                continue
            try:
                result = _fit_cell(group, model, world, setup, folder, networks)
            except Exception as error:
                failed[model] = f"{type(error).__name__}: {error}"
                continue
            write_json(folder / f"{model}.json", result)
            if after is not None:
                after(result)
    return failed


def _fit_cell(
    group: Group, model: str, world: WorldData, setup: Setup, folder: Path, networks: Mapping[str, Network]
) -> dict[str, Any]:
    """Fit and test one model; return what is kept of it."""
    network = networks.get(model)
    began, predicted = time.process_time(), []

    def predict() -> None:
        if network is None:
            predicted.append(predict_reference(model, world))
        else:
            predicted.append(predict_network(model, world, group.seed, setup, folder / "checkpoints", networks))

    gib = peak_above(predict)
    ((risk, facts),) = predicted
    outcome = (world.truth[name].to_numpy(float) for name in ("time", "event"))
    return {
        **asdict(group),
        "model": model,
        "setup": asdict(setup),
        "definition": None if network is None else network.digest(networks),
        "code": CODE,
        "seconds": round(time.process_time() - began, 2),
        "facts": facts | {"gib": None if gib is None else round(gib, 3)},
        "c_index": float(concordance_index(*outcome, risk)),
        "risk": risk.tolist(),
    }


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


def kept_results(
    work: Path, setup: Setup, networks: Mapping[str, Network] = NETWORKS
) -> dict[Group, dict[str, dict[str, Any]]]:
    """{group: {model: result}} of all kept results of this setup and definition, whichever run made them."""
    results: dict[Group, dict[str, dict[str, Any]]] = {}
    for path in sorted(work.glob("*/*/*/*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        is_listed = result.get("model") in REFERENCES or result.get("model") in networks
        if is_listed and _is_current(result, setup, networks):
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
