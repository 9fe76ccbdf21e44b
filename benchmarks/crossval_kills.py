"""Kills a cross-validation at random moments: the rerun must give the same bytes and repeat no finished fit.

python benchmarks/crossval_kills.py            # all models, 3 folds, ten kills; about 10 minutes on one core
python benchmarks/crossval_kills.py --quick    # three models, 2 folds, three kills; about 1 minute
python benchmarks/crossval_kills.py --jobs 2   # folds in parallel; the kill hits the parent alone, as a scheduler's may
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

LATEST = 1.5
"""Maximum number of seconds after a random number of finished fits"""
SAME = ("crossval.json", "oof_predictions.csv")


def prepare(root: Path, patients: int, folds: int) -> Path:
    """Simulate a cohort with both modalities, and write a small teacher's config."""
    argv = ["simulate", "cohort", "--features-only", "--patients", str(patients), "--held-out", "4", "--dim", "16"]
    subprocess.run([sys.executable, "-m", "dmml", *argv], cwd=root, check=True, stdout=subprocess.DEVNULL)
    folder = Path("cohort/development")
    task = {"class_path": "Survival", "init_args": {"n_intervals": 3}}
    content = {
        "seed_everything": 0,
        "model": {"class_path": "SubspaceTeacher", "init_args": {"width": 16, "task": task}},
        "data": {
            "class_path": "MultimodalDataModule",
            "init_args": {
                "clinical": str(folder / "clinical.csv"),
                "outcome": {"time": "os_days", "event": "os_event", "unit": "days"},
                "covariates": ["age", "sex", "stage"],
                "expression": str(folder / "expression.parquet"),
                "features": str(folder / "features.zarr"),
                "split": {"folds": folds},
            },
        },
        "trainer": {"max_epochs": 2, "callbacks": [{"class_path": "GradientCoordination"}]},
    }
    (root / "config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return root


def start(root: Path, out: str, more: list[str]) -> subprocess.Popen:
    """Start `dmml crossval` in a separate process group."""
    argv = [sys.executable, "-m", "dmml", "crossval", "--config", "config.yaml", "--out", out, *more]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(argv, cwd=root, start_new_session=True, **quiet)
    process.began = time.time()
    return process


def finished(folder: Path) -> dict[str, int]:
    """{model of a fold: time at which its mark was written}."""
    marks = [path for path in folder.rglob("done.json") if ".part" not in str(path)]
    return {str(path.parent.relative_to(folder)): path.stat().st_mtime_ns for path in marks}


def unfinished(folder: Path) -> list[str]:
    """Models of a fold that are being fitted, or were being fitted at a kill."""
    return sorted(f"{p.parent.name}/{p.name[1:-5]}" for p in folder.rglob(".*.part") if p.is_dir())


def at_work(process: subprocess.Popen, folder: Path, before: dict[str, int]) -> bool:
    """Wait until a process fits something or has ended; return whether it is still running."""
    unfinished_before = set(unfinished(folder))
    while process.poll() is None:
        # A fit that an earlier kill interrupted is started again; its folder is then newer than this process.
        if set(unfinished(folder)) - unfinished_before or finished(folder) != before:
            return True
        young = [p for p in folder.rglob(".*.part") if p.is_dir() and p.stat().st_mtime > process.began]
        if young:
            return True
        time.sleep(0.05)
    return False


def measure(root: Path, kills: int, more: list[str], seed: int) -> dict[str, Any]:
    """Run once without and once with kills, and compare.

    The kill hits the process of the command alone; workers of `--jobs` must end by themselves.
    """
    process = start(root, "whole", more)
    at_work(process, root / "whole", {})
    began = time.monotonic()
    if process.wait():
        raise RuntimeError("the cross-validation fails even without kills")
    lasted = time.monotonic() - began
    generator = np.random.default_rng(seed)
    # Kills are spread over the fits rather than over time, so that each interrupts another fit.
    points = np.sort(generator.integers(0, len(finished(root / "whole")), kills))
    rows, redone = [], 0
    before = finished(root / "killed")
    for point, moment in zip(points, generator.uniform(0, LATEST, kills), strict=True):
        process = start(root, "killed", more)
        died = at_work(process, root / "killed", before)
        while process.poll() is None and len(finished(root / "killed")) < point:
            time.sleep(0.02)
        try:
            process.wait(timeout=moment)
            died = False
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        now = finished(root / "killed")
        redone += sum(now.get(name) != mark for name, mark in before.items())
        underway = unfinished(root / "killed") if died else []
        rows.append(
            {
                "point": int(point),
                "after_s": round(float(moment), 2),
                "killed": died,
                "finished": len(now),
                "underway": ", ".join(underway),
            }
        )
        before = now
    if start(root, "killed", more).wait():
        raise RuntimeError("the rerun after the kills fails")
    now = finished(root / "killed")
    redone += sum(now.get(name) != mark for name, mark in before.items())
    whole = json.loads((root / "whole" / "crossval.json").read_text(encoding="utf-8"))
    left = [str(path.relative_to(root)) for path in (root / "killed").rglob(".*")]
    return {
        "models": list(whole["models"]),
        "folds": len({unit["fold"] for unit in whole["units"]}),
        "fits": len(now),
        "seconds": round(lasted, 1),
        "kills": rows,
        "redone": redone,
        "left_over": left,
        "same": {name: (root / "whole" / name).read_bytes() == (root / "killed" / name).read_bytes() for name in SAME},
    }


def markdown(result: dict[str, Any], command: str) -> str:
    """The page of docs/results."""
    died = sum(row["killed"] for row in result["kills"])
    same = " and ".join(f"`{name}`" for name, equal in result["same"].items() if equal) or "nothing"
    lines = [
        "# A killed cross-validation",
        "",
        f"`{command}`. {len(result['models'])} models ({', '.join(result['models'])}), {result['folds']} folds of a "
        f"simulated cohort with slides and RNA; the fits took {result['seconds']:.0f} s. A second run was killed "
        f"(SIGKILL) {died} times at random moments and started again each time.",
        "",
        f"At the end {same} are identical, byte by byte, to those of the uninterrupted run. Of {result['fits']} "
        f"finished fits {result['redone']} were repeated, and {len(result['left_over'])} unfinished folders were left.",
        "",
        "| killed | finished then | underway |",
        "|---|---|---|",
    ]
    lines += [
        f"| {row['after_s']:.1f} s after fit {row['point']}{'' if row['killed'] else ' (it had ended)'} | "
        f"{row['finished']} | {row['underway']} |"
        for row in result["kills"]
    ]
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three models, 2 folds, three kills")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--jobs", type=int, default=1, help="folds side by side")
    parser.add_argument(
        "--cross-fit", action="store_true", help="students learn from teachers that left the patient out"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args(argv)
    more = [*(["--jobs", str(args.jobs)] if args.jobs > 1 else []), *(["--cross-fit"] if args.cross_fit else [])]
    command = " ".join(["python benchmarks/crossval_kills.py", *(["--quick"] if args.quick else []), *more])
    kills, patients, folds = args.kills, 36, 3
    if args.quick:
        kills, patients, folds = min(3, args.kills), 24, 2
        more += ["--models", "teacher,student,clinical" if args.cross_fit else "rna_network,clinical"]
    with tempfile.TemporaryDirectory() as temporary:
        result = measure(prepare(Path(temporary), patients, folds), kills, more, args.seed)
    page = markdown(result, command)
    print(page)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "crossval_kills.md").write_text(page, encoding="utf-8")
    (args.out / "crossval_kills.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


if __name__ == "__main__":
    main()
