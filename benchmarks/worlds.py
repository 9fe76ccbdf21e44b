"""How good are the models if the signal is shared, in tissue alone, rare, in RNA alone, opposed, or absent?

Every world of `dmml simulate --world` is simulated for each seed. Linear references, gated ABMIL, published networks and
dmml's models with their defaults are fitted on three quarters of the patients, with a quarter for inner validation, and
tested once on 400 others. Each result is kept under --work and not repeated, so that a run can be stopped and continued.
Writes `worlds.json`, `worlds.md` and `worlds.png` from all kept results.

    python benchmarks/worlds.py --jobs 2 --out docs/results          # the whole design
    python benchmarks/worlds.py --worlds shared --seeds 1 --models ridge_rna teacher
    python benchmarks/worlds.py --redo teacher student               # after a change to them
    python benchmarks/worlds.py --page-only                          # the page of the results kept so far
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, and for the workers

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from worlds_cells import MODELS, Group, kept_results, kept_truth, with_teachers
from worlds_data import Setup
from worlds_networks import NETWORKS
from worlds_page import markdown
from worlds_picture import draw
from worlds_references import REFERENCES
from worlds_run import Failures, Plan, estimated_hours, pending, run, stop_if_failed, without_results
from worlds_summary import summarise

from dmml.simulate.worlds import WORLDS

ALONE = ("teacher_backbone_alone", "student_backbone_alone")
DEFAULT_MODELS = (*REFERENCES, "histology_abmil", "teacher", "student", "student_undistilled", *ALONE)
RIVALS = ("late_fusion", "transmil_like", "mcat_like")
SEEDS, RIVAL_SEEDS = (1, 2, 3, 4), (1, 2)
NULL_SEEDS = range(1, 9)
"""Seeds of the world without signal: with four cohorts, chance changes the mean concordance by more than 0.02"""
PATIENTS = 200
OTHER_PATIENTS, OTHER_WORLDS, OTHER_SEEDS = (100, 800), ("shared", "tissue_only", "rare_tissue"), (1, 2)
SECONDS = dict.fromkeys((*REFERENCES, *ALONE), 1.0) | {"histology_abmil": 20.0, "late_fusion": 10.0}


def design() -> Plan:
    """All cells: every world with 200 patients, and some worlds with fewer and with more."""
    plan = {}
    for world in WORLDS:
        for seed in NULL_SEEDS if world == "null" else SEEDS:
            rivals = RIVALS if seed in RIVAL_SEEDS else ()
            plan[Group(world, PATIENTS, seed)] = [*DEFAULT_MODELS, *rivals]
    for patients in OTHER_PATIENTS:
        plan |= {Group(world, patients, seed): list(DEFAULT_MODELS) for world in OTHER_WORLDS for seed in OTHER_SEEDS}
    # Only a network can use interactions of tokens, and it needs many patients for that.
    plan |= {Group("token_interaction", max(OTHER_PATIENTS), seed): list(DEFAULT_MODELS) for seed in OTHER_SEEDS}
    return plan


def selected_plan(arguments: argparse.Namespace) -> Plan:
    """The selected cells: the design, or all combinations of the values of the options."""
    plan = design()
    if arguments.worlds or arguments.patients or arguments.seeds:
        worlds, sizes = arguments.worlds or list(WORLDS), arguments.patients or [PATIENTS]
        seeds = arguments.seeds or SEEDS
        plan = {Group(world, n, seed): list(DEFAULT_MODELS) for n in sizes for world in worlds for seed in seeds}
    models = {name: NETWORKS[name].unknown_arguments for name in arguments.models or () if name in NETWORKS}
    for name, unknown in models.items():
        if unknown:
            print(f"{name}: left out; {NETWORKS[name].class_path} has no argument {', '.join(unknown)}")
    networks = [name for name in arguments.models or () if not models.get(name)]
    return {
        group: with_teachers(networks if arguments.models else group_models) for group, group_models in plan.items()
    }


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", choices=list(WORLDS), help="default: those of the design")
    parser.add_argument("--patients", nargs="+", type=int, help="for training and inner validation together")
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), help="with the teachers that they need")
    parser.add_argument("--test", type=int, default=Setup.test, help=f"tested patients (default: {Setup.test})")
    parser.add_argument("--features", type=int, default=Setup.features, help="width of the tokens' features")
    parser.add_argument("--max-epochs", type=int, default=Setup.max_epochs)
    parser.add_argument(
        "--redo", nargs="+", choices=list(MODELS), default=[], help="make these, and their students, anew"
    )
    parser.add_argument("--page-only", action="store_true", help="fit nothing; write the page of what is kept")
    parser.add_argument("--jobs", type=int, default=2, help="processes, one thread each (default: 2)")
    parser.add_argument("--work", type=Path, default=Path("runs/worlds"), help="where results are kept")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args(argv)
    if small := [n for n in arguments.patients or () if n < 20]:
        parser.error(f"--patients: {small[0]} are too few to be parted; give 20 or more")
    return arguments


def command_of(arguments: argparse.Namespace) -> str:
    """The command that makes such a page, without options for folders and for repeating results."""
    words = ["python benchmarks/worlds.py"]
    for name in ("worlds", "patients", "seeds", "models"):
        if values := getattr(arguments, name):
            words += [f"--{name}", *map(str, values)]
    for name in ("test", "features", "max_epochs"):
        if (value := getattr(arguments, name)) != getattr(Setup, name):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return " ".join(words)


def main(argv: list[str] | None = None, show: Callable[[str], None] = print) -> None:
    """Fit what is missing, compare, print, write."""
    arguments = parse(argv)
    setup, work = Setup(arguments.test, arguments.features, arguments.max_epochs), arguments.work
    failed: Failures = {}
    if not arguments.page_only:
        plan = selected_plan(arguments)
        without_results(plan, {*arguments.redo}, work)
        left = pending(plan, setup, work)
        n_left, n_cells = (sum(len(models) for models in each.values()) for each in (left, plan))
        hours = estimated_hours(left, setup, work, arguments.jobs, SECONDS)
        show(f"{n_left} of {n_cells} cells to make, about {hours:.1f} h with {arguments.jobs} processes")
        failed = run(left, setup, work, arguments.jobs)
    results = kept_results(work, setup)
    summary = {
        "command": command_of(arguments),
        "setup": asdict(setup),
        **summarise(results, {group: kept_truth(group, work) for group in results}),
    }
    text = markdown(summary)
    show(text)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "worlds.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    (arguments.out / "worlds.md").write_text(text, encoding="utf-8")
    draw(summary, arguments.out / "worlds.png")
    stop_if_failed(failed)


if __name__ == "__main__":
    main()
