"""A store of very many slides: how long it takes to list, to verify and to start a fit on it, and in how much memory.

The commands run as a user would run them, each in a process of its own. With --base, the list is also made from a checkout
of an earlier commit, in turns, and the page states the ratio. A fit ends at its first training step (`first_step.py`);
one on a few slides shows how much of it is the start of the libraries. Seconds of the processor are those of all threads.

    python benchmarks/large_store.py --work FOLDER [--slides 100000] [--base CHECKOUT] [--out docs/results]

The folder keeps the store, of 120 kB per slide on the disk, for the next run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from first_step import ANSWER, STARTED
from large_store_data import describe, make_cohort, make_store
from machine import describe_machine
from process_memory import kib

HERE = Path(__file__).resolve().parent
FEW = 50
"""Slides of the small store"""
NOW, BEFORE = "this commit", "before"
MIN_SPEEDUP, MAX_START_S, MAX_START_GIB = 2.0, 60.0, 1.0
"""Targets: of the list's speed, and of the start of a fit beyond that on a few slides"""


def run(code: Path, words: list[str], work: Path) -> dict[str, Any]:
    """Run a command of dmml from a checkout.

    Returns:
        `seconds`, `cpu` seconds, `peak` MiB, and `rss`, MiB at a hundred times of the run.
    """
    answer = work / "answer.json"
    answer.unlink(missing_ok=True)
    path = os.pathsep.join((str(code), str(HERE)))
    start = time.time()
    environment = {**os.environ, "PYTHONPATH": path, STARTED: str(start), ANSWER: str(answer)}
    with (work / "output.txt").open("w") as output:
        command = [sys.executable, "-m", "dmml", *words]
        process = subprocess.Popen(command, env=environment, cwd=work, stdout=output, stderr=subprocess.STDOUT)
        samples, peak = [], 0
        while (done := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            try:
                samples.append(kib("VmRSS", file=f"{process.pid}/status") / 1024)
                peak = kib("VmHWM", file=f"{process.pid}/status") / 1024
            except (OSError, KeyError):  # it has just ended
                continue
            time.sleep(0.05)
    seconds, (_, status, used) = time.time() - start, done
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"dmml {' '.join(words)}: {(work / 'output.txt').read_text()[-2000:]}")
    row = {"seconds": seconds, "cpu": used.ru_utime + used.ru_stime, "peak": peak}
    if answer.is_file():
        row |= {"seconds": json.loads(answer.read_text())["seconds"]}
    return row | {"rss": [samples[i * len(samples) // 100] for i in range(100)]}


def measure(versions: dict[str, Path], work: Path, slides: int, rounds: int, commands: list[str]) -> dict[str, Any]:
    """{command: {version: the run with the fewest seconds of the processor}}, in turns."""
    store, few = work / "store.zarr", work / "few.zarr"
    make_store(few, FEW)
    make_store(store, slides)
    words = {
        "list": ["features", "list", str(store)],
        "fit, few": ["fit", "--config", str(make_cohort(work / "few", FEW, few))],
        "fit": ["fit", "--config", str(make_cohort(work / "many", slides, store))],
        "verify, few": ["features", "verify", str(few)],
        "verify": ["features", "verify", str(store)],
    }
    rows: dict[str, dict[str, Any]] = {}
    for name in commands:
        is_list = name == "list"
        for _ in range(rounds if is_list else 1):
            for version, code in versions.items() if is_list else [(NOW, versions[NOW])]:
                row = run(code, words[name], work) | {"slides": FEW if name.endswith("few") else slides}
                print(
                    f"{name}, {version}: {row['seconds']:.1f} s, {row['cpu']:.1f} s CPU, {row['peak']:.0f} MiB",
                    flush=True,
                )
                best = rows.setdefault(name, {})
                if version not in best or row["cpu"] < best[version]["cpu"]:
                    best[version] = row
    return rows


def markdown(result: dict[str, Any]) -> str:
    """The page of docs/results."""
    rows = result["rows"]
    names = {"list": "`dmml features list`", "fit": "`dmml fit` to its first step", "verify": "`dmml features verify`"}
    table = []
    for command in ("list", "fit, few", "fit", "verify, few", "verify"):
        for version, row in rows.get(command, {}).items():
            figures = f"{row['seconds']:.1f} | {row['cpu']:.1f} | {row['peak']:,.0f}"
            table.append(f"| {names[command.split(',')[0]]} | {row['slides']:,} | {version} | {figures} |")
    return "\n".join(
        [
            f"# A store of {max(row['slides'] for row in rows['list'].values()):,} slides",
            "",
            f"Slides of {describe()}; one per patient, with RNA of 8 genes; the fit is of a teacher without a backbone, whose "
            "own fit reads the tiles of every patient. Each command runs in a process of its own, in turns with the earlier "
            "commit; the list is the faster of several turns.",
            "",
            f"    {result['command']}",
            "",
            f"{result['machine']}. {result['note']}",
            "",
            "| command | slides | version | s | processor s | peak memory, MiB |",
            "|---|---|---|---|---|---|",
            *table,
            "",
            *_verdicts(rows),
            "",
        ]
    )


def _verdicts(rows: dict[str, Any]) -> list[str]:
    lines = []
    if BEFORE in (of_list := rows.get("list", {})):
        ratios = {key: of_list[BEFORE][key] / of_list[NOW][key] for key in ("seconds", "cpu", "peak")}
        verdict = "" if ratios["cpu"] >= MIN_SPEEDUP else " **missed**"
        lines.append(
            f"- The list is {ratios['cpu']:.1f} times as fast as before by processor time{verdict} ({ratios['seconds']:.1f} by the "
            f"clock; target {MIN_SPEEDUP:g}), in {1 / ratios['peak']:.0%} of the memory."
        )
    if "fit" in rows and "fit, few" in rows:
        many, few = rows["fit"][NOW], rows["fit, few"][NOW]
        seconds, cpu, gib = (
            many["seconds"] - few["seconds"],
            many["cpu"] - few["cpu"],
            (many["peak"] - few["peak"]) / 1024,
        )
        verdict = "" if seconds <= MAX_START_S and gib <= MAX_START_GIB else " **missed**"
        lines.append(
            f"- The start of a fit takes {seconds:.0f} s ({cpu:.0f} s of the processor) and {gib:.2f} GiB more than on {FEW} slides"
            f"{verdict} (target: {MAX_START_S:g} s and {MAX_START_GIB:g} GiB)."
        )
    if "verify" in rows:
        rss = rows["verify"][NOW]["rss"]
        first, last = max(rss[10:20]), max(rss[90:])
        lines.append(
            f"- While `verify` runs, its memory is {first:.0f} MiB in the second tenth of the time and {last:.0f} MiB in the last "
            f"({last / first - 1:+.1%})."
        )
    return lines


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder that keeps the store (default: a temporary one)")
    parser.add_argument("--slides", type=int, default=100_000)
    parser.add_argument("--base", type=Path, help="checkout of the commit to compare with")
    parser.add_argument("--rounds", type=int, default=3, help="turns of the list")
    parser.add_argument("--commands", default="list;fit, few;fit;verify, few;verify", help="what to run, by semicolons")
    parser.add_argument("--note", default="", help="what else the machine did meanwhile, for the page")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    versions = {NOW: HERE.parent} | ({BEFORE: arguments.base.resolve()} if arguments.base else {})
    with tempfile.TemporaryDirectory() as temporary:
        work = (arguments.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        rows = measure(versions, work, arguments.slides, arguments.rounds, arguments.commands.split(";"))
    earlier = arguments.out / "large_store.json"
    if earlier.is_file():  # the commands of this run replace those of an earlier one
        rows = json.loads(earlier.read_text())["rows"] | rows
    result = {
        "command": "python benchmarks/large_store.py --base BEFORE",
        "machine": describe_machine(),
        "note": arguments.note,
        "rows": rows,
    }
    text = markdown(result)
    print(text)
    arguments.out.mkdir(parents=True, exist_ok=True)
    earlier.write_text(json.dumps(result) + "\n")
    (arguments.out / "large_store.md").write_text(text)


if __name__ == "__main__":
    main()
