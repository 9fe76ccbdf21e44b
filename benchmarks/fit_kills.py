"""Kills `dmml fit` at random moments and resumes it: is the result bit by bit that of an uninterrupted run?

    python benchmarks/fit_kills.py [--kills 30] [--out docs/results]

Each run is killed three times (SIGKILL twice, SIGTERM once), resumed each time with `--resume`, and then finished.
`metrics.csv` is compared, and weights, optimiser, schedule, epoch and step of `best.ckpt` and `last.ckpt`.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import yaml

from dmml.__main__ import main

KILLS_A_RUN = (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL)


def write_config(work: Path, patients: int, epochs: int) -> Path:
    """Simulate a small cohort of token features, and write the config of a teacher with all options switched on."""
    size = ["--patients", str(patients), "--held-out", "4", "--dim", "16"]
    assert main(["simulate", str(work / "cohort"), "--features-only", *size]) == 0
    folder = work / "cohort" / "development"
    config = {
        "seed_everything": 3,
        "model": {"class_path": "SubspaceTeacher", "init_args": {"width": 16, "task": {"class_path": "Survival"}}},
        "data": {
            "class_path": "MultimodalDataModule",
            "init_args": {
                "clinical": str(folder / "clinical.csv"),
                "outcome": {"time": "os_days", "event": "os_event", "unit": "days"},
                "expression": str(folder / "expression.parquet"),
                "features": str(folder / "features.zarr"),
                "batch_size": 4,
                "max_tokens": 60,
                "pack": 2,
            },
        },
        "trainer": {
            "max_epochs": epochs,
            "enable_progress_bar": False,
            "accelerator": "cpu",
            "gradient_clip_val": 1.0,
            "accumulate_grad_batches": 2,
            "callbacks": [{"class_path": "GradientCoordination", "init_args": {"scope": "shared"}}],
        },
    }
    path = work / "fit.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def start(config: Path, run: Path, *options: str) -> int:
    """Start `dmml fit` in a fork of this process, which has imported everything already; return its id."""
    child = os.fork()
    if child:
        return child
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    code = 1
    try:
        code = main(["fit", "--config", str(config), "--trainer.default_root_dir", str(run), *options])
    finally:
        os._exit(code)


def wait(child: int) -> int:
    """Wait for a process; return its exit status, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def result(run: Path) -> dict[str, Any]:
    """Everything that a finished run writes."""
    kept: dict[str, Any] = {"metrics": (run / "metrics.csv").read_text()}
    for name in ("best", "last"):
        checkpoint = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        parts = ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step")
        kept |= {f"{name}.{part}": checkpoint[part] for part in parts}
        kept[f"{name}.median_risk"] = checkpoint["hyper_parameters"]["fitted"].get("median_risk")
    return kept


def equal(a: Any, b: Any) -> bool:
    """Whether two states are equal bit by bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return set(a) == set(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def measure(kills: int, patients: int, epochs: int, seed: int = 0) -> dict[str, Any]:
    """Kill and resume runs.

    Returns:
        Numbers of kills and runs, and the parts in which a run differed from the uninterrupted one.
    """
    draw = random.Random(seed)
    work = Path(tempfile.mkdtemp(prefix="fit_kills_"))
    try:
        config = write_config(work, patients, epochs)
        begin = time.monotonic()
        if code := wait(start(config, work / "whole")):
            raise SystemExit(f"the undisturbed run ended with {code}")
        seconds, whole = time.monotonic() - begin, result(work / "whole")
        done, late, runs, apart = 0, 0, 0, []
        while done < kills:
            run = work / f"killed_{runs}"
            runs += 1
            for signum in KILLS_A_RUN:
                child = start(config, run, "--resume")
                time.sleep(draw.uniform(0.05, 0.9) * seconds)
                if os.waitpid(child, os.WNOHANG)[0]:
                    late += 1  # it had finished
                    break
                os.kill(child, signum)
                wait(child)
                done += 1
                if done >= kills:
                    break
            wait(start(config, run, "--resume"))
            after = result(run)
            apart += [f"{run.name}: {part}" for part in whole if not equal(after[part], whole[part])]
            shutil.rmtree(run)
        return {"kills": done, "runs": runs, "late": late, "seconds": seconds, "epochs": epochs, "apart": apart}
    finally:
        shutil.rmtree(work, ignore_errors=True)


def page(record: dict[str, Any], command: str) -> str:
    """The page of docs/results."""
    verdict = "None differed in any bit." if not record["apart"] else f"Differed: {', '.join(record['apart'])}."
    return f"""# Killed and resumed

`{command}`

{record["kills"]} kills at random moments (two thirds SIGKILL, one third SIGTERM) of {record["runs"]} runs of `dmml fit` over {record["epochs"]} epochs, each resumed with `--resume` until it was finished; the uninterrupted run takes {record["seconds"]:.1f} s, and kills can hit any part of it, including the reading of tables and the writing of checkpoints. {record["late"]} more came after the end. Compared with the uninterrupted run: `metrics.csv`, and in `best.ckpt` and `last.ckpt` the weights, the optimiser, the schedule, epoch and step, and the median training risk. With dropout, coordination in the shared scope, accumulation over two batches, packed batches, tokens drawn again in each epoch, early stopping and cosine schedule.

**{verdict}**
"""


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--patients", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    import_module("dmml.cli")  # once for all processes
    record = measure(args.kills, args.patients, args.epochs)
    text = page(record, f"python benchmarks/fit_kills.py --kills {args.kills}")
    print(text)
    if args.out:
        (args.out / "fit_kills.md").write_text(text)
    sys.exit(bool(record["apart"]))


if __name__ == "__main__":
    run()
