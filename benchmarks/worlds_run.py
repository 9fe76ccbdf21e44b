"""Fits the missing cells of a plan, in one or several processes; a run can be stopped and continued."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from functools import partial
from pathlib import Path

from tqdm import tqdm
from worlds_cells import Group, kept_results, missing_cells, run_group
from worlds_data import Setup, scene_named
from worlds_networks import NETWORKS, Network

Plan = dict[Group, list[str]]
Failures = dict[Group, dict[str, str]]
"""{group: {model: what ended it}}; the key "" of the models stands for the whole group"""
UNMEASURED_SECONDS = 80.0
"""Assumed seconds of a cell with 200 patients, until cells of the model have been measured"""


def pending(plan: Plan, setup: Setup, work: Path, networks: Mapping[str, Network] = NETWORKS) -> Plan:
    """The cells of a plan that are not kept yet."""
    left = {group: missing_cells(group, models, setup, work, networks) for group, models in plan.items()}
    return {group: models for group, models in left.items() if models}


def without_results(plan: Plan, models: set[str], work: Path, networks: Mapping[str, Network] = NETWORKS) -> None:
    """Remove the kept results of some models and of the students of their teachers from the groups of a plan."""
    removed = set(models)
    for name, network in networks.items():  # teachers come before their students
        removed |= {name} if network.needs & removed else set()
    for group in plan:
        for model in removed:
            (group.folder(work) / f"{model}.json").unlink(missing_ok=True)


def estimated_hours(
    plan: Plan,
    setup: Setup,
    work: Path,
    jobs: int,
    seconds: Mapping[str, float],
    networks: Mapping[str, Network] = NETWORKS,
) -> float:
    """Estimated hours of a plan, from the time per patient of kept cells of the same model.

    Args:
        plan: The cells.
        setup: Settings that all cells share.
        work: Folder of kept results.
        jobs: Number of processes.
        seconds: {model: assumed seconds of a cell with 200 patients} of models of which none is kept.
        networks: All networks by name.
    """
    of_model: dict[str, list[float]] = {}
    of_scene: dict[tuple[str, str], list[float]] = {}
    for group, results in kept_results(work, setup, networks).items():
        for model, result in results.items():
            by_patient = result["seconds"] / group.patients
            of_scene.setdefault((group.world, model), []).append(by_patient)
            of_model.setdefault(model, []).append(by_patient / scene_named(group.world).cost)
    total = 0.0
    for group, models in plan.items():
        cost = scene_named(group.world).cost
        for model in models:
            assumed = [seconds.get(model, UNMEASURED_SECONDS) / 200 * cost]
            of_other_scenes = [each * cost for each in of_model.get(model, ())]
            measured = of_scene.get((group.world, model)) or of_other_scenes or assumed
            total += group.patients * sum(measured) / len(measured)
    return total / 3600 / jobs


def run(plan: Plan, setup: Setup, work: Path, jobs: int, networks: Mapping[str, Network] = NETWORKS) -> Failures:
    """Fit the missing cells of a plan, group by group, in `jobs` processes.

    Returns:
        What ended cells; all other cells are fitted nevertheless.
    """
    total = sum(len(models) for models in plan.values())
    with tqdm(total=total, disable=None, unit="cell") as bar:
        fit = partial(run_group, setup=setup, work=work, networks=networks)
        if jobs > 1:
            return _in_processes(plan, fit, jobs, bar, partial(pending, plan, setup, work, networks))
        failed = {}
        for group, models in plan.items():
            failed[group] = _caught(partial(fit, group, models, after=partial(_tell, bar)))
    return {group: ended for group, ended in failed.items() if ended}


def _caught(fit) -> dict[str, str]:
    """Result of a call, or what ended it before its first cell."""
    try:
        return fit()
    except Exception as error:
        return {"": f"{type(error).__name__}: {error}"}


def _in_processes(plan: Plan, fit, jobs: int, bar: tqdm, left) -> Failures:
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        group_of = {pool.submit(fit, group, models): group for group, models in plan.items()}
        running = set(group_of)
        try:
            while running:
                _, running = wait(running, timeout=2, return_when=FIRST_COMPLETED)
                bar.update(bar.total - sum(len(models) for models in left().values()) - bar.n)
        finally:
            pool.shutdown(cancel_futures=True)
    failed = {group: _caught(future.result) for future, group in group_of.items()}
    return {group: ended for group, ended in failed.items() if ended}


def _tell(bar: tqdm, result: dict) -> None:
    name = f"{result['world']}, {result['patients']} patients, seed {result['seed']}, {result['model']}"
    bar.write(f"{name}: concordance {result['c_index']:.3f}, {result['seconds']:.0f} s", sys.stdout)
    bar.update()


def stop_if_failed(failed: Failures) -> None:
    """Name the cells that could not be fitted.

    Raises:
        SystemExit: There are some.
    """
    reasons = [
        f"{group.world}, {group.patients} patients, seed {group.seed}{', ' if model else ''}{model}: {reason}"
        for group, ended in failed.items()
        for model, reason in ended.items()
    ]
    if reasons:
        raise SystemExit(f"{len(reasons)} of the cells could not be finished: {'; '.join(reasons)}")
