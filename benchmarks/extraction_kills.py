"""Kill an extraction 50 times at random moments; the final store must equal the undisturbed one, bit for bit.

Each round starts `extract` on the same slides in a process of its own, kills it with SIGKILL after a random time, and
goes on with the next; when the store is complete, it is compared file by file with one that was never disturbed, and
begun again. What has to be done again after a kill is counted: tiles that the encoder was given before it and again
after it, and slides all of whose tiles were. No slide that was in the store may be written a second time.

    python benchmarks/extraction_kills.py [--kills 50] [--out docs/results]
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

MEAN_COLOUR = """
import sys, time
import numpy as np
from dmml.slides.extraction.extract import extract

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
from dmml.slides.extraction import stream

given, encode = os.open(sys.argv[4], os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream._Stream._encode

def encoding(state):
    tiles = [f"{{tile.slide.request.path.stem}}/{{tile.magnification}}/{{tile.row}}\\n" for tile in state.waiting]
    os.write(given, "".join(tiles).encode())
    encode(state)

stream._Stream._encode = encoding
result = extract([sys.argv[1]], sys.argv[2], MeanColour(), readers=int(sys.argv[3]))
print(len(result.written), len(result.skipped))
"""


def start(slides: Path, out: Path, readers: int) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(slides), str(out), str(readers), str(given_to_encoder(out))],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def given_to_encoder(store: Path) -> Path:
    """File of the tiles that a run on a store gave to the encoder: slide/magnification/row, a line each."""
    return store.parent / f"{store.stem}.given"


def given(store: Path) -> set[str]:
    """Tiles that the last run on a store gave to the encoder."""
    path = given_to_encoder(store)
    return set(path.read_text().splitlines()) if path.exists() else set()


def done_again(runs: list[set[str]], slides: dict[str, int]) -> list[tuple[int, int]]:
    """Of each run but the last: tiles that it and a later one encoded, and slides all of whose tiles those are.

    Args:
        runs: Tiles that each run on a store gave to the encoder.
        slides: {slide: its tiles}.
    """
    found = []
    for i, run in enumerate(runs[:-1]):
        again = run & set.union(*runs[i + 1 :])
        of = Counter(tile.partition("/")[0] for tile in again)
        found.append((len(again), sum(n == slides[slide] for slide, n in of.items())))
    return found


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
    sizes = Counter(tile.partition("/")[0] for tile in given(folder / "whole.zarr"))
    cut, done, stores, lost, again, redone, runs = folder / "cut" / "f.zarr", 0, 0, 0, 0, [], []
    cut.parent.mkdir()
    while True:
        before, finished = written_at(cut), False
        given_to_encoder(cut).unlink(missing_ok=True)
        process = start(slides, cut, readers)
        if done < kills:
            try:
                process.wait(rng.uniform(0.2, 1.0) * length)
                finished = True
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                done += 1
        else:
            process.wait()
            finished = True
        runs.append(given(cut))
        after = written_at(cut)
        lost += len(before.keys() - after.keys())
        again += sum(after[slide] != before[slide] for slide in before.keys() & after.keys())
        if finished:
            if process.returncode or content(cut) != whole:
                raise SystemExit(f"the store differs from the undisturbed one after {done} kills")
            stores += 1
            redone += done_again(runs, sizes)
            runs.clear()
            shutil.rmtree(cut.parent)
            cut.parent.mkdir()
            if done >= kills:
                return {
                    "kills": done,
                    "stores": stores,
                    "lost": lost,
                    "written_again": again,
                    "redone": redone,
                    "tiles": sorted(sizes.values()),
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
        "| reading processes | kills | complete stores compared | files in each | differing | visible slides lost | visible slides written again | tiles encoded again a kill: mean, largest | slides encoded again whole |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {r} | {m['kills']} | {m['stores']} | {m['files']} | 0 | {m['lost']} | {m['written_again']} | "
            f"{statistics.mean(tiles for tiles, _ in m['redone']):.1f}, {max(tiles for tiles, _ in m['redone'])} | "
            f"{sum(whole for _, whole in m['redone'])} |"
            for r, m in rows
        ),
        "",
        "A store counts as equal when every file, hidden ones included, has the same bytes as in the undisturbed one; the script ends with an error at the first that has not. The slides have "
        f"{', '.join(map(str, rows[0][1]['tiles']))} tiles, a batch has 8; what was encoded is kept beside the store until a slide is whole, so that a killed run loses the batch that the encoder is at and the one before it at most.",
        "",
    ]
    print("\n".join(lines))
    if args.out:
        (args.out / "extraction_kills.md").write_text("\n".join(lines))
        found = [{"readers": readers, **measured} for readers, measured in rows]
        (args.out / "extraction_kills.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
