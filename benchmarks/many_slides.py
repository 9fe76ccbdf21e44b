"""Memory of an extraction of many tiny slides: does the main process, or a reading process, grow with their number?

Every slide is the same drawn image of one tile at 20x, under another name, so that the time goes into what an extraction
does once per slide: finding the file, opening it, finding its tissue, writing its features and synchronising them to
the disk. The kernel's high-water mark of each process is reset before both windows of slides, and read after them.

    python benchmarks/many_slides.py [--slides 10000] [--work FOLDER] [--out docs/results]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe_machine
from PIL import Image, ImageFilter
from process_memory import kib

MAX_GROWTH = 0.05
"""Target: largest growth between the two windows, relative to the first"""
SIDE_PX = 224


def draw_slides(folder: Path, slides: int) -> None:
    """Draw one image of tissue, and link it under as many names."""
    folder.mkdir()
    random = np.random.default_rng(0)
    noise = Image.fromarray(random.integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8))
    texture = np.asarray(noise.filter(ImageFilter.GaussianBlur(2)), dtype=np.float32) - 128
    picture = np.clip(np.array([190, 110, 170], np.float32) + 1.5 * texture, 0, 255).astype(np.uint8)
    first = folder / "slide_00000.png"
    Image.fromarray(picture).save(first)
    for number in range(1, slides):
        os.link(first, folder / f"slide_{number:05d}.png")


def extract(slides: Path, store: Path, windows: list[tuple[int, int]], log: Path) -> dict[str, Any]:
    """Extract with the default encoder and one reading process, and watch both processes.

    Args:
        slides: Folder of slides.
        store: Store to create.
        windows: (first, last) number of slides in the store between which the peaks are measured.
        log: File for the command's output.

    Returns:
        `seconds`, and `windows`: {"main": KiB, "reader": KiB} for each.
    """
    command = [sys.executable, "-m", "dmml", "extract", str(slides), "--out", str(store), "--mpp", "0.5"]
    command += ["--magnifications", "20", "--readers", "1"]
    start = time.perf_counter()
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as run:
        peaks = [_peaks_between(run, store / "slides", *window) for window in windows]
    if run.returncode:
        sys.exit(f"the extraction failed: {log.read_text()[-2000:]}")
    return {"seconds": time.perf_counter() - start, "windows": peaks}


def _peaks_between(run: subprocess.Popen, folder: Path, first: int, last: int) -> dict[str, int]:
    """Wait for `first` slides, reset the peaks of all processes, and return them at `last` slides or at the end."""
    _wait_for(run, folder, first)
    (reader,) = _children(run.pid)
    pids = {"main": run.pid, "reader": reader}
    for pid in pids.values():
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    peaks: dict[str, int] = {}
    while True:
        is_over = run.poll() is not None or _count(folder) >= last
        try:
            peaks |= {name: kib("VmHWM", file=f"{pid}/status") for name, pid in pids.items()}
        except (OSError, KeyError):  # the process has ended; the last look was a moment ago
            return peaks
        if is_over:
            return peaks
        time.sleep(0.2)


def _wait_for(run: subprocess.Popen, folder: Path, slides: int) -> None:
    while _count(folder) < slides:
        if run.poll() is not None:
            raise SystemExit(f"the extraction ended before slide {slides}")
        time.sleep(0.2)


def _count(folder: Path) -> int:
    """Number of slides in a store, whose folder also has one file."""
    return max(0, len(os.listdir(folder)) - 1) if folder.is_dir() else 0


def _children(pid: int) -> list[int]:
    """Processes that any thread of a process has started."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def markdown(result: dict[str, Any]) -> str:
    """The page of docs/results."""
    rows = []
    for process in ("main", "reader"):
        first, last = (window[process] / 1024 for window in result["peaks"])
        verdict = "" if last <= (1 + MAX_GROWTH) * first else " **missed**"
        rows.append(f"| {process} | {first:.0f} | {last:.0f} | {last / first - 1:+.1%}{verdict} |")
    (a, b), (c, d) = result["windows"]
    return "\n".join(
        [
            "# Memory of an extraction of many slides",
            "",
            f"`dmml extract` of {result['slides']:,} slides of one tile each, with the default encoder and one reading process: "
            f"{result['seconds'] / 60:.0f} minutes, including the discovery of the files and the QC page at the end. Peak memory of "
            "both processes in MiB, reset by the kernel before each window. The target is a growth of at most "
            f"{MAX_GROWTH:.0%}.",
            "",
            f"    {result['command']}",
            "",
            f"{result['machine']}. {result['note']}",
            "",
            f"| process | slides {a:,}–{b:,} | slides {c:,}–{d:,} | growth |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> None:
    """Draw, extract, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slides", type=int, default=10_000)
    parser.add_argument("--work", type=Path, help="folder for slides and store (default: a temporary one)")
    parser.add_argument("--note", default="", help="what else the machine did meanwhile, for the page")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    n = arguments.slides
    windows = [(n // 10, n // 5), (n - n // 10, n)]
    work = Path(tempfile.mkdtemp(dir=arguments.work))
    try:
        draw_slides(work / "slides", n)
        measured = extract(work / "slides", work / "features.zarr", windows, work / "log.txt")
    finally:
        shutil.rmtree(work)
    result = {
        "command": f"python benchmarks/many_slides.py --slides {n}",
        "machine": describe_machine(),
        "note": arguments.note,
        "slides": n,
        "seconds": measured["seconds"],
        "windows": windows,
        "peaks": measured["windows"],
    }
    text = markdown(result)
    print(text)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "many_slides.json").write_text(json.dumps(result, indent=2) + "\n")
    (arguments.out / "many_slides.md").write_text(text)


if __name__ == "__main__":
    main()
