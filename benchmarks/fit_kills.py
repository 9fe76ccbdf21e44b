"""Kills `dmml fit` at random moments and resumes it: is the result the undisturbed run's, bit by bit?

    python benchmarks/fit_kills.py [--kills 30] [--out docs/results]

Each run is killed three times (SIGKILL twice, SIGTERM once), resumed each time with `--resume`, and then left alone.
Compared are `metrics.csv`, and of `best.ckpt` and `last.ckpt` weights, optimiser, schedule, epoch and step.
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
    """A small cohort of token features, and a config of a teacher with everything switched on."""
    size = ["--patients", str(patients), "--held-out", "4", "--dim", "16"]
    assert main(["simulate", str(work / "cohort"), "--features-only", *size]) == 0
    own = work / "cohort" / "development"
    config = {
        "seed_everything": 3,
        "model": {"class_path": "SubspaceTeacher", "init_args": {"width": 16, "task": {"class_path": "Survival"}}},
        "data": {
            "class_path": "MultimodalDataModule",
            "init_args": {
                "clinical": str(own / "clinical.csv"),
                "outcome": {"time": "os_days", "event": "os_event", "unit": "days"},
                "expression": str(own / "expression.parquet"),
                "features": str(own / "features.zarr"),
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
    """`dmml fit` in a process of its own; this one has imported everything already. Returns its id."""
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
    """Exit status of a process; minus the signal that it died of."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def result(run: Path) -> dict[str, Any]:
    """What a finished run leaves."""
    kept: dict[str, Any] = {"metrics": (run / "metrics.csv").read_text()}
    for name in ("best", "last"):
        checkpoint = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        parts = ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step")
        kept |= {f"{name}.{part}": checkpoint[part] for part in parts}
        kept[f"{name}.median_risk"] = checkpoint["hyper_parameters"]["fitted"].get("median_risk")
    return kept


def equal(a: Any, b: Any) -> bool:
    """Bit by bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return set(a) == set(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def measure(kills: int, patients: int, epochs: int, seed: int = 0) -> dict[str, Any]:
    """Kill and resume.

    Returns:
        Counts of kills and runs, and the parts in which a run was not the undisturbed one.
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


def page(found: dict[str, Any], command: str) -> str:
    """The result page."""
    verdict = "None differed in any bit." if not found["apart"] else f"Differed: {', '.join(found['apart'])}."
    return f"""# Killed and resumed

`{command}`

{found["kills"]} kills at random moments (two thirds SIGKILL, one third SIGTERM) of {found["runs"]} runs of `dmml fit` over {found["epochs"]} epochs, each resumed with `--resume` until it was finished; the undisturbed run takes {found["seconds"]:.1f} s, and kills fall anywhere in it, also while tables are read and checkpoints are written. {found["late"]} more came too late. Compared with the undisturbed run: `metrics.csv`, and of `best.ckpt` and `last.ckpt` the weights, the optimiser, the schedule, epoch and step, and the median training risk. With dropout, coordination in the shared scope, accumulation over two batches, packed batches, tokens drawn anew each epoch, early stopping and cosine schedule.

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
    import_module("dmml.cli")  # once, here, for all the processes
    found = measure(args.kills, args.patients, args.epochs)
    text = page(found, f"python benchmarks/fit_kills.py --kills {args.kills}")
    print(text)
    if args.out:
        (args.out / "fit_kills.md").write_text(text)
    sys.exit(bool(found["apart"]))


if __name__ == "__main__":
    run()
