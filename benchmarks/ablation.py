"""What is each contribution worth? Each is removed alone or replaced, on simulated patients with known factors.

The defaults were chosen on seeds 0–4, whose fits were not kept; this script confirms them on other seeds. A student
learns from the teacher of its seed. Each fit is kept under --work and not repeated, so that a run can be stopped and
continued; fits made with other settings are repeated. Prints the tables and writes `ablation.json` and `ablation.md`.

    python benchmarks/ablation.py --jobs 2 --out docs/results
    python benchmarks/ablation.py --quick                        # a test run of less than a minute, without meaning
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, and for the workers

import argparse
import json
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from ablation_fit import DONE, MISSING, OTHER_CODE, Settings, fit_and_test, result_path, state_of, write_truth
from ablation_summary import Results, summarise
from ablation_table import markdown
from ablation_variants import BY_NAME, QUICK, TEACHER, Variant, closure
from tqdm import tqdm

QUICK_SETTINGS = Settings(train=32, val=8, test=40, features=16, width=16, epochs=2)
CHOSEN_ON = range(5)
"""Seeds on which the defaults were chosen, and which therefore confirm nothing"""

Unit = tuple[str, int]


def seeds_of(text: str) -> list[int]:
    """Seeds from a list of numbers and ranges: `100-102`, `100,102`."""
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        seeds += range(int(first), int(last or first) + 1)
    return list(dict.fromkeys(seeds))


def pending(
    variants: list[Variant], seeds: list[int], settings: Settings, work: Path, redo: bool = False
) -> list[list[Unit]]:
    """Fits that are still to be made: teachers, then students, seed by seed. Prints what is repeated, and why.

    Args:
        variants: Variants to fit.
        seeds: Seeds of each variant.
        settings: Settings of all fits.
        work: Folder in which fits are kept.
        redo: Whether to repeat fits made by another state of the code; otherwise they are kept and named on the page.
    """
    stages: list[list[Unit]] = [[], []]
    kept = 0
    for seed in seeds:
        for variant in variants:
            state = state_of(work, variant, seed, settings)
            if state == DONE or (state == OTHER_CODE and not redo):
                kept += state == OTHER_CODE
                continue
            if state != MISSING:
                print(f"{result_path(work, variant.name, seed)}: made by {state}; redone")
            stages[variant.kind != TEACHER].append((variant.name, seed))
    if kept:
        print(f"{kept} fits were made by {OTHER_CODE} and are kept; --redo makes them again")
    return stages


def fit_all(stages: list[list[Unit]], settings: Settings, work: Path, jobs: int) -> None:
    """Make the fits, `jobs` at a time; each is kept as soon as it is done."""
    total = sum(len(stage) for stage in stages)
    with tqdm(total=total, disable=None, unit="fit") as bar:
        for stage in stages:
            for result in _at_a_time(stage, settings, work, jobs):
                concordance = "not finite" if result["c_index"] is None else f"concordance {result['c_index']:.3f}"
                bar.write(
                    f"{result['variant']}, seed {result['seed']}: {concordance}, {result['seconds']:.0f} s", sys.stdout
                )
                bar.update()


def _at_a_time(stage: list[Unit], settings: Settings, work: Path, jobs: int) -> Iterator[dict[str, Any]]:
    if jobs == 1 or len(stage) < 2:
        yield from (fit_and_test(name, seed, settings, work) for name, seed in stage)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        running = [pool.submit(fit_and_test, name, seed, settings, work) for name, seed in stage]
        try:
            yield from (future.result() for future in as_completed(running))
        finally:
            pool.shutdown(cancel_futures=True)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=seeds_of, default=None, help="e.g. 100-102 (the default) or 100,105")
    parser.add_argument("--patients", type=int, help="of which a fifth chooses the epoch (default 150)")
    parser.add_argument("--test", type=int, help=f"tested patients (default {Settings.test})")
    parser.add_argument("--width", type=int, help=f"of the models (default {Settings.width})")
    parser.add_argument("--epochs", type=int, help=f"at most (default {Settings.epochs})")
    parser.add_argument("--easy", action="store_true", help="no nuisance on the slides, and follow-up to the end")
    parser.add_argument("--variants", help="comma-separated; with what they are compared with. Default: all")
    parser.add_argument("--jobs", type=int, default=2, help="fits at a time, one thread each")
    parser.add_argument("--work", type=Path, help="where fits are kept (default runs/ablation)")
    parser.add_argument("--out", type=Path, help="default docs/results; with --quick the folder of --work")
    parser.add_argument("--quick", action="store_true", help="one seed, four variants, tiny")
    parser.add_argument("--redo", action="store_true", help="also fits that another state of the code made")
    arguments = parser.parse_args(argv)
    if unknown := [name for name in (arguments.variants or "").split(",") if name and name not in BY_NAME]:
        parser.error(f"--variants: there is no {', '.join(unknown)}; there are {', '.join(BY_NAME)}")
    arguments.work = arguments.work or Path("runs/ablation_quick" if arguments.quick else "runs/ablation")
    arguments.out = arguments.out or (arguments.work if arguments.quick else Path("docs/results"))
    arguments.seeds = arguments.seeds or ([100] if arguments.quick else [100, 101, 102])
    return arguments


def settings_of(arguments: argparse.Namespace) -> Settings:
    """Settings of the full or the quick form, changed by the options of the command line."""
    options = {name: getattr(arguments, name) for name in ("test", "width", "epochs") if getattr(arguments, name)}
    if arguments.patients:
        options |= {"val": arguments.patients // 5, "train": arguments.patients - arguments.patients // 5}
    if arguments.easy:
        options |= {"nuisance": 0.0, "early_end": False}
    return Settings(**(asdict(QUICK_SETTINGS if arguments.quick else Settings()) | options))


def read(variants: list[Variant], seeds: list[int], work: Path) -> Results:
    """Read the kept results."""
    return {v.name: {seed: json.loads(result_path(work, v.name, seed).read_text()) for seed in seeds} for v in variants}


def main(argv: list[str] | None = None, show: Callable[[str], None] = print) -> None:
    """Fit what is missing, compare, print, write."""
    arguments = parse(argv)
    settings, seeds, work = settings_of(arguments), arguments.seeds, arguments.work
    variants = closure(arguments.variants.split(",") if arguments.variants else QUICK if arguments.quick else BY_NAME)
    if tuning_seeds := [seed for seed in seeds if seed in CHOSEN_ON]:
        show(f"seeds {', '.join(map(str, tuning_seeds))}: the defaults were chosen on these, so they confirm nothing")
    torch.set_num_threads(1)
    stages = pending(variants, seeds, settings, work, arguments.redo)
    show(f"{sum(map(len, stages))} of {len(variants) * len(seeds)} fits to make")
    fit_all(stages, settings, work, arguments.jobs)
    truths = {seed: write_truth(seed, settings, work) for seed in seeds}
    summary = {
        "command": " ".join(["python benchmarks/ablation.py", *(sys.argv[1:] if argv is None else argv)]),
        "settings": asdict(settings),
        **summarise(read(variants, seeds, work), truths),
    }
    text = markdown(summary)
    show(text)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "ablation.json").write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    (arguments.out / "ablation.md").write_text(text)


if __name__ == "__main__":
    main()
