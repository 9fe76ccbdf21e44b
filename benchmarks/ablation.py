"""What is each part worth, in the world where it could matter? Each is removed alone or replaced, in every family.

Families are the paper's model, forms of the released code put into it, and dmml with all its parts, without its backbone
and with it; the last has fewer scenes and seeds. Every variant is fitted in the scenes that were named for it in advance
and in the world `shared`; with --everywhere in all scenes. A student learns from the whole teacher of its family, unless
the variant says otherwise. Each result is kept under --work and not repeated, so that a run can be stopped and continued;
with --cells also on another machine. Writes `ablation.json`, `ablation.md` and `ablation.png` from all kept results.

    python benchmarks/ablation.py --jobs 2 --out docs/results        # the whole design
    python benchmarks/ablation.py --families paper --scenes shared
    python benchmarks/ablation.py --redo paper_teacher               # after a change to it; its students follow
    python benchmarks/ablation.py --page-only                        # the page of the results kept so far
    python benchmarks/ablation.py --cells results.zip               # continues from the results of the file
    python benchmarks/ablation.py --quick                            # a test run of a minute, without meaning
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, and for the workers

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ablation_networks import ABLATED, BASELINE, BY_FAMILY, VARIANTS, has_cell, reference_of
from ablation_page import markdown
from ablation_picture import draw
from ablation_summary import mean_r2, scene_name, summarise
from ablation_variants import SCENES, Scene
from kept_cells import pack, unpack
from worlds_cells import Group, kept_results, kept_truth, with_teachers
from worlds_data import Setup, scene_named
from worlds_references import REFERENCES
from worlds_run import Failures, Plan, estimated_hours, pending, run, stop_if_failed, without_results

SEEDS = (100, 101, 102)
"""The defaults were chosen on seeds 0 to 4, which would confirm nothing"""
EPOCHS = 30
"""At most; the learning rate falls until then"""
SECONDS = {name: 45.0 if network.class_path.endswith("Student") else 60.0 for name, network in ABLATED.items()}
SECONDS |= dict.fromkeys(REFERENCES, 1.0) | {BASELINE: 25.0}
"""Assumed seconds of a cell with 200 patients, until cells of the model have been measured"""
QUICK_VARIANTS = ("deep_no_coordination", "deep_student_undistilled")
NAMES = {
    scene_name({"world": world, "patients": patients}).replace(" ", "_"): (world, patients)
    for world, patients in SCENES
}
"""{scene as the command line names it: scene}"""


def design(variants: list[str], scenes: list[Scene], seeds: list[int], everywhere: bool = False) -> Plan:
    """The cells of some variants, with the networks that they are compared with, their teachers, and the references.

    Args:
        variants: Keys of `VARIANTS`.
        scenes: Scenes to which the design is restricted.
        seeds: Seeds of the cohorts; a family may have fewer.
        everywhere: Whether every variant runs in every scene, not only where it was named and in `shared`.
    """
    plan = {}
    # The scenes whose cells take longest come first, so that the processes end at about the same time.
    for scene in sorted(scenes, key=lambda scene: -scene_named(scene[0]).cost):
        for nth, seed in enumerate(seeds):
            here = [name for name in variants if has_cell(name, scene, nth, everywhere)]
            if here:
                wanted = {*REFERENCES, BASELINE, *here, *map(reference_of, here)}
                plan[Group(*scene, seed)] = with_teachers(sorted(wanted), ABLATED)
    return plan


def selected_variants(arguments: argparse.Namespace) -> list[str]:
    """The variants to fit; those whose parts do not exist are left out with a message."""
    names = arguments.variants or [name for name, (family, _) in VARIANTS.items() if family in arguments.families]
    usable = []
    for name in names:
        needed = with_teachers([name, reference_of(name)], ABLATED)
        unknown = dict.fromkeys(each for network in needed for each in ABLATED[network].unknown_arguments)
        if unknown:
            print(f"{name}: left out; there is no {', '.join(unknown)}")
        else:
            usable.append(name)
    return usable


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=list(BY_FAMILY), default=list(BY_FAMILY))
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), help="with what they are compared with")
    parser.add_argument("--scenes", nargs="+", choices=list(NAMES), default=list(NAMES))
    parser.add_argument("--everywhere", action="store_true", help="every variant in every scene")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument(
        "--redo", nargs="+", choices=list(ABLATED), default=[], help="make these, and their students, anew"
    )
    parser.add_argument("--page-only", action="store_true", help="fit nothing; write the page of what is kept")
    parser.add_argument("--plan-only", action="store_true", help="fit nothing; say how long the design takes")
    parser.add_argument("--quick", action="store_true", help="one seed, one scene, two variants, tiny")
    parser.add_argument("--jobs", type=int, default=2, help="processes, one thread each (default: 2)")
    parser.add_argument("--work", type=Path, help="where results are kept (default: runs/ablation)")
    parser.add_argument("--cells", type=Path, help="zip file of results to continue from, which is renewed at the end")
    parser.add_argument("--out", type=Path, help="default: docs/results; with --quick the folder of --work")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.variants, arguments.seeds = arguments.variants or list(QUICK_VARIANTS), [SEEDS[0]]
        arguments.scenes, arguments.everywhere = ["shared_100"], True
    arguments.work = arguments.work or Path("runs/ablation_quick" if arguments.quick else "runs/ablation")
    arguments.out = arguments.out or (arguments.work if arguments.quick else Path("docs/results"))
    return arguments


def command_of(arguments: argparse.Namespace) -> str:
    """The command that makes such a page, without options for folders and for repeating results."""
    words = ["python benchmarks/ablation.py"] + ["--quick"] * arguments.quick
    defaults = {"families": list(BY_FAMILY), "scenes": list(NAMES), "seeds": list(SEEDS), "variants": None}
    for name, default in defaults.items():
        value = getattr(arguments, name)
        words += [] if arguments.quick or value == default else [f"--{name}", *map(str, value)]
    return " ".join(words + ["--everywhere"] * (arguments.everywhere and not arguments.quick))


def kept_ceilings(groups: list[Group], work: Path) -> dict[str, Any]:
    """{scene: upper limits of the factors that embeddings contain, mean over seeds}, where they were measured."""
    by_scene: dict[str, list[dict[str, Any]]] = {}
    for group in groups:
        path = group.folder(work) / "ceilings.json"
        if path.is_file():
            kept = json.loads(path.read_text(encoding="utf-8"))
            by_scene.setdefault(f"{group.world} {group.patients}", []).append(kept)
    return {
        scene: {
            reading: {which: mean_r2([seed[reading][which] for seed in kept]) for which in kept[0][reading]}
            for reading in kept[0]
        }
        for scene, kept in by_scene.items()
    }


def main(argv: list[str] | None = None, show: Callable[[str], None] = print) -> None:
    """Fit what is missing, compare, print, write."""
    arguments = parse(argv)
    setup, work = Setup(40, 16, 2) if arguments.quick else Setup(max_epochs=EPOCHS), arguments.work
    failed: Failures = {}
    if arguments.cells is not None and arguments.cells.is_file():
        unpack(arguments.cells, work)
    if not arguments.page_only:
        scenes = [NAMES[name] for name in arguments.scenes]
        plan = design(selected_variants(arguments), scenes, arguments.seeds, arguments.everywhere)
        without_results(plan, {*arguments.redo}, work, ABLATED)
        left = pending(plan, setup, work, ABLATED)
        n_left, n_cells = (sum(len(models) for models in each.values()) for each in (left, plan))
        hours = estimated_hours(left, setup, work, arguments.jobs, SECONDS, ABLATED)
        show(f"{n_left} of {n_cells} cells to make, about {hours:.1f} h with {arguments.jobs} processes")
        if arguments.plan_only:
            return
        failed = run(left, setup, work, arguments.jobs, ABLATED)
    results = kept_results(work, setup, ABLATED)
    summary = {
        "command": command_of(arguments),
        "setup": asdict(setup),
        "ceilings": kept_ceilings(list(results), work),
        **summarise(results, {group: kept_truth(group, work) for group in results}),
    }
    text = markdown(summary)
    show(text)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "ablation.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    (arguments.out / "ablation.md").write_text(text, encoding="utf-8")
    draw(summary, arguments.out / "ablation.png")
    if arguments.cells is not None:
        pack(work, arguments.cells)
    stop_if_failed(failed)


if __name__ == "__main__":
    main()
