"""How long do commands take to answer, and which packages do they import?

The commands run one after the other, each in a process of its own, on the data and models that `make demo` leaves behind;
seconds are the minimum over the rounds, from the start of the process to its end. The graph of the encoder must be cached,
as after one `dmml predict-slide`. Prints a table and writes
`start_up.json` and `start_up.md`.

    python benchmarks/start_up.py --slide cmu_small_region.svs --out docs/results
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dmml.cohort.rna.expression import read_expression

PACKAGES = ("torch", "lightning", "timm", "pandas", "matplotlib")
"""Packages that take long to import"""
CHILD = """
import json, sys
from dmml.__main__ import main
code = main(sys.argv[2:])
packages = sorted({name.partition('.')[0] for name in sys.modules})
with open(sys.argv[1], 'w') as file:
    json.dump({'code': code, 'modules': len(sys.modules), 'packages': packages}, file)
"""
AT_ONCE, OF_COHORT, ONE_SLIDE, NEXT_SLIDE = 1.0, 3.0, 7.0, 1.5
"""Targets in seconds: of a refusal that needs no cohort, of one of a tested cohort, of a slide, of each further slide"""
SLIDES = 10


@dataclass(frozen=True)
class Case:
    """A command line.

    Attributes:
        name: Its row in the table.
        argv: What is typed after `dmml`.
        code: The exit code that it must have.
        target: Seconds in which it is to end; None = no target.
    """

    name: str
    argv: Sequence[str | Path]
    code: int = 0
    target: float | None = None


@dataclass
class Files:
    """The demo's files, and a folder for what the cases need beside them.

    Attributes:
        demo: Folder that holds `demo` and `runs`.
        work: Folder of further files.
        slide: The slide that is predicted.
    """

    demo: Path
    work: Path
    slide: Path
    checkpoint: Path = field(init=False)

    def __post_init__(self) -> None:
        self.checkpoint = self.demo / "runs/demo_student/checkpoints/best.ckpt"
        if not self.checkpoint.is_file():
            sys.exit(f"{self.checkpoint}: no such file; run `make demo` first, or name its folder with --demo")

    def config(self, name: str, cohort: str = "held_out", model: dict | None = None, **changes: Any) -> Path:
        """Write a config; `changes` replace arguments of its data section, or of the trainer with `trainer`."""
        folder = self.demo / "demo" / cohort
        data = {
            "name": cohort,
            "clinical": str(folder / "clinical.csv"),
            "outcome": {"time": "os_days", "event": "os_event", "unit": "days"},
            "expression": str(folder / "expression.parquet"),
            "features": str(folder / "features.zarr"),
        }
        trainer = changes.pop("trainer", {})
        content: dict[str, Any] = {"data": {"class_path": "MultimodalDataModule", "init_args": data | changes}}
        if model is not None:
            content["model"] = {"class_path": "SubspaceTeacher", "init_args": model}
            content["trainer"] = {"default_root_dir": str(self.work / "run"), **trainer}
        path = self.work / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    def expression(self, name: str, every: int, scale: str) -> dict[str, str]:
        """Write every n-th gene of the held-out cohort's RNA, TPM as log2 if so named, for a data section."""
        table = read_expression(self.demo / "demo/held_out/expression.parquet").table.iloc[:, ::every]
        path = self.work / f"{name}.csv"
        (np.log2(table + 1) if scale == "log2" else table).to_csv(path, index_label="patient_id")
        return {"path": str(path), "scale": scale}

    def copies(self) -> Path:
        """Return a folder with copies of the slide."""
        folder = self.work / "slides"
        folder.mkdir()
        for i in range(SLIDES):
            shutil.copy(self.slide, folder / f"slide_{i}{self.slide.suffix}")
        return folder


def refusals(files: Files) -> list[Case]:
    """Commands whose input is wrong in a way that no cohort is needed to see."""
    model = {"width": 64}
    misspelt = files.config("misspelt", "development", {"widht": 64})
    trainer = files.config("trainer", "development", model, trainer={"max_epoch": 3})
    missing = files.config("missing", "development", model, clinical="nowhere.csv")
    teacher = files.demo / "runs/demo/checkpoints/best.ckpt"
    text = files.work / "text.ckpt"
    text.write_text("no checkpoint", encoding="utf-8")
    cases = {
        "an unknown command": ["extrakt", "slides"],
        "fit: no such config": ["fit", "--config", "nowhere.yaml"],
        "fit: no such table": ["fit", "--config", missing],
        "fit: a misspelt argument of the model": ["fit", "--config", misspelt],
        "fit: a misspelt argument of the trainer": ["fit", "--config", trainer],
        "test: no checkpoint": ["test", "--ckpt_path", text, "--config", files.config("text")],
        "predict-slide: no such slide": ["predict-slide", "gone.svs", "--ckpt_path", teacher, "--out", "o"],
        "predict-slide: no checkpoint": ["predict-slide", files.slide, "--ckpt_path", text, "--out", "o"],
        "extract: no such folder": ["extract", "nowhere", "--out", "f.zarr"],
        "features: no store": ["features", "list", "nowhere.zarr"],
        "report: no such run": ["report", "nowhere"],
    }
    return [Case(name, argv, 2, AT_ONCE) for name, argv in cases.items()]


def cases(files: Files) -> list[Case]:
    """All commands, lightest first."""
    development, run = files.config("development", "development"), files.demo / "runs/demo_student"
    wrong = files.config("scale", expression=files.expression("scale", 1, "log2"))
    few = files.config("genes", expression=files.expression("genes", 4, "tpm"))
    tested = ["test", "--ckpt_path", files.demo / "runs/demo/checkpoints/best.ckpt", "--config"]
    predict = ["predict-slide", "--ckpt_path", files.checkpoint, "--overwrite", "--out"]
    return [
        Case("--help", ["--help"]),
        *refusals(files),
        Case("features list", ["features", "list", files.demo / "demo/held_out/features.zarr"]),
        Case("doctor --config", ["doctor", "--config", development]),
        Case("report of a run", ["report", run, "--out", files.work / "report.html"]),
        Case("test: RNA on another scale", [*tested, wrong], 2, OF_COHORT),
        Case("test: a quarter of the genes", [*tested, few], 2, OF_COHORT),
        Case("predict-slide: one slide", [*predict, files.work / "one", files.slide], 0, ONE_SLIDE),
        Case(f"predict-slide: {SLIDES} slides", [*predict, files.work / "ten", files.copies()]),
    ]


def run(case: Case, folder: Path) -> dict[str, Any]:
    """Run a command once.

    Returns:
        `seconds`, `cpu` (processor seconds of all threads), `modules` (number of imported modules), and `packages` (those of `PACKAGES` among them).
    """
    answer = folder / "answer.json"
    command = [sys.executable, "-c", CHILD, str(answer), *map(str, case.argv)]
    used, started = _cpu_of_children(), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    seconds, cpu = time.perf_counter() - started, _cpu_of_children() - used
    if done.returncode:
        sys.exit(f"{case.name}: ended with a traceback\n{done.stderr}")
    report = json.loads(answer.read_text(encoding="utf-8"))
    if report["code"] != case.code:
        sys.exit(f"{case.name}: exit code {report['code']} instead of {case.code}\n{done.stderr}")
    imported = [name for name in PACKAGES if name in report["packages"]]
    return {"seconds": seconds, "cpu": cpu, "modules": report["modules"], "packages": imported}


def measure(files: Files, rounds: int) -> list[dict[str, Any]]:
    """Run all commands in turn, round by round; return a row for each."""
    rows: dict[str, dict[str, Any]] = {}
    every = cases(files)
    for number in range(rounds):
        for case in every[:-1] if number else every:  # ten slides are predicted once
            row = run(case, files.work)
            for key in ("seconds", "cpu"):
                row[key] = min(row[key], rows.get(case.name, row)[key])
            rows[case.name] = {"command": case.name, "target": case.target, **row}
    one, several = rows["predict-slide: one slide"], rows[f"predict-slide: {SLIDES} slides"]
    times = {key: (several[key] - one[key]) / (SLIDES - 1) for key in ("seconds", "cpu")}
    further = {**several, "command": "predict-slide: each further slide", "target": NEXT_SLIDE, **times}
    return [*rows.values(), further]


def markdown(result: dict[str, Any]) -> str:
    """The page of docs/results."""
    lines = [
        "# Start-up of the commands",
        "",
        "Seconds from the start of a process to its end, and processor seconds of all its threads, minimum of "
        f"{result['rounds']} runs (ten slides: one run), on the data and models of `make demo`. Each command imports only what it uses: a network is "
        "rebuilt from its checkpoint without PyTorch Lightning, and Lightning is imported by `fit`, `validate`, `test`, "
        f"`predict` and `crossval` alone. The slide is {result['slide']}.",
        "",
        f"    {result['command']}",
        "",
        f"torch {result['torch']}, {result['processor']}, OMP_NUM_THREADS={result['threads']}",
        "",
        f"| command | s | target | processor s | modules | {' | '.join(PACKAGES)} |",
        f"|---|---|---|---|---|{'---|' * len(PACKAGES)}",
    ]
    for row in result["rows"]:
        reached = "" if row["target"] is None else f"≤ {row['target']:g}"
        if row["target"] is not None and row["seconds"] > row["target"]:
            reached += " **missed**"
        marks = " | ".join("yes" if name in row["packages"] else "" for name in PACKAGES)
        lines.append(
            f"| {row['command']} | {row['seconds']:.2f} | {reached} | {row['cpu']:.2f} | {row['modules']:,} | {marks} |"
        )
    lines += ["", "Commands with an explanation after a colon are refused with one line and exit code 2.", ""]
    return "\n".join(lines)


def _cpu_of_children() -> float:
    """Processor seconds of all processes that this one has waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, default=Path(), help="folder in which `dmml demo` ran (default: here)")
    parser.add_argument("--slide", type=Path, help="slide to predict (default: the demo's first held-out slide)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    if arguments.slide is None:
        arguments.slide = min((arguments.demo / "demo/held_out/slides").glob("*.tif"), default=Path("none.tif"))
    return arguments


def main() -> None:
    """Measure, print, write."""
    arguments = parse()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        files = Files(arguments.demo.resolve(), Path(folder), arguments.slide.resolve())
        rows = measure(files, arguments.rounds)
    result = {
        "command": f"python benchmarks/start_up.py --slide {arguments.slide.name} --rounds {arguments.rounds}",
        "slide": arguments.slide.name,
        "torch": version("torch"),
        "python": platform.python_version(),
        "processor": _processor(),
        "threads": os.environ.get("OMP_NUM_THREADS", "unset"),
        "rounds": arguments.rounds,
        "rows": rows,
    }
    text = markdown(result)
    print(text)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "start_up.json").write_text(json.dumps(result, indent=2) + "\n")
    (arguments.out / "start_up.md").write_text(text)


def _processor() -> str:
    """Name of the processor; `model_speed` has this, too, but sets the number of threads of all processes when imported."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


if __name__ == "__main__":
    main()
