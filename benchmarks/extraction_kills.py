"""Kill an extraction 50 times at random moments; the final store must equal the undisturbed one, bit for bit.

Each round starts `extract` on the same slides in a process of its own, kills it with SIGKILL after a random time, and
goes on with the next; when the store is complete, it is compared file by file with one that was never disturbed, and
begun again. What has to be done again after a kill is counted: slides of which tiles had been handed to the encoder and
that were not in the store yet. No slide that was in the store may be written a second time.

    python benchmarks/extraction_kills.py [--kills 50] [--out docs/results]
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MEAN_COLOUR = """
import sys, time
import numpy as np
from dmml.slides.extract import extract

class MeanColour:
    # An encoder without a network, so that a process starts in a second and most of its life is extraction.
    # What stands before this text says how many SECONDS a batch takes.
    name, dim, batch_size, precision = "mean-colour", 3, 8, "32"
    identity = {"name": "mean-colour", "weights": "none", "dim": 3, "preprocessing": {}}

    def start(self, tiles):
        time.sleep(SECONDS)
        return tiles.mean(axis=(1, 2), dtype=np.float64)

    def finish(self, started):
        return started

    def find_batch_size(self):
        return self.batch_size
"""
CHILD = f"""
SECONDS = 0.01
{MEAN_COLOUR}
import os
from dmml.slides import stream

handed, take = os.open(sys.argv[4], os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream._Work.take

def taking(work, tiles):
    os.write(handed, (work.request.path.stem + "\\n").encode())
    take(work, tiles)

stream._Work.take = taking
result = extract([sys.argv[1]], sys.argv[2], MeanColour(), readers=int(sys.argv[3]))
print(len(result.written), len(result.passed_over))
"""


def start(slides: Path, out: Path, readers: int) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(slides), str(out), str(readers), str(handed_to(out))],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def handed_to(store: Path) -> Path:
    """File of the slides that runs on a store handed to the encoder, a line for each unit of tiles."""
    return store.parent / f"{store.stem}.handed"


def written_at(store: Path) -> dict[str, tuple[int, int]]:
    """{visible slide: what changes when it is written again}."""
    told = {slide: (store / "slides" / slide / "zarr.json").stat() for slide in visible(store)}
    return {slide: (known.st_ino, known.st_mtime_ns) for slide, known in told.items()}


def content(store: Path) -> dict[str, bytes]:
    """{file: bytes} of a store, what is hidden included."""
    return {str(p.relative_to(store)): p.read_bytes() for p in sorted(store.rglob("*")) if p.is_file()}


def visible(store: Path) -> set[str]:
    folder = store / "slides"
    return {path.name for path in folder.iterdir() if path.is_dir()} if folder.is_dir() else set()


def measure(slides: Path, folder: Path, kills: int, readers: int, seed: int = 0) -> dict:
    """Kill and go on until so many kills are done and the last store is complete."""
    rng = random.Random(seed)
    begun = time.perf_counter()
    process = start(slides, folder / "whole.zarr", readers)
    if process.wait():
        raise SystemExit("the undisturbed extraction failed")
    length, whole = time.perf_counter() - begun, content(folder / "whole.zarr")
    cut, done, stores, lost, again, redone = folder / "cut" / "f.zarr", 0, 0, 0, 0, []
    cut.parent.mkdir()
    while True:
        before, finished = written_at(cut), False
        handed_to(cut).unlink(missing_ok=True)
        process = start(slides, cut, readers)
        if done < kills:
            try:
                process.wait(rng.uniform(0.2, 1.0) * length)
                finished = True
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                done += 1
                begun_ones = handed_to(cut).read_text().split() if handed_to(cut).exists() else []
                redone.append(len(set(begun_ones) - visible(cut)))
        else:
            process.wait()
            finished = True
        after = written_at(cut)
        lost += len(before.keys() - after.keys())
        again += sum(after[slide] != before[slide] for slide in before.keys() & after.keys())
        if finished:
            if process.returncode or content(cut) != whole:
                raise SystemExit(f"the store differs from the undisturbed one after {done} kills")
            stores += 1
            shutil.rmtree(cut.parent)
            cut.parent.mkdir()
            if done >= kills:
                return {
                    "kills": done,
                    "stores": stores,
                    "lost": lost,
                    "written_again": again,
                    "redone": redone,
                    "files": len(whole),
                    "seconds": length,
                }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--slides", type=int, default=8)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    from dmml.__main__ import main as dmml

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dmml(["simulate", str(folder / "sim"), "--patients", str(args.slides), "--held-out", "1"])
        rows = []
        for readers in (0, 1):
            (folder / str(readers)).mkdir()
            slides = folder / "sim" / "development" / "slides"
            rows.append((readers, measure(slides, folder / str(readers), args.kills // 2, readers, seed=readers)))
    lines = [
        "# Killed extractions",
        "",
        f"`python {' '.join(['benchmarks/extraction_kills.py', *sys.argv[1:]])}`: SIGKILL at a random moment of each run, then the same command again.",
        "",
        "| reading processes | kills | complete stores compared | files in each | differing | visible slides lost | visible slides written again | slides redone a kill: mean, largest |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {r} | {m['kills']} | {m['stores']} | {m['files']} | 0 | {m['lost']} | {m['written_again']} | "
            f"{sum(m['redone']) / max(1, len(m['redone'])):.2f}, {max(m['redone'], default=0)} |"
            for r, m in rows
        ),
        "",
        "A store counts as equal when every file, hidden ones included, has the same bytes as in the undisturbed one; the script ends with an error at the first that has not. Redone: slides of which tiles had been handed to the encoder when the process was killed, and that were not in the store yet.",
        "",
    ]
    print("\n".join(lines))
    if args.out:
        (args.out / "extraction_kills.md").write_text("\n".join(lines))
        found = [{"readers": readers, **measured} for readers, measured in rows]
        (args.out / "extraction_kills.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
