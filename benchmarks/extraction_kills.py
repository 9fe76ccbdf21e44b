"""Kills an extraction 50 times at random moments; the final store must equal an uninterrupted one, bit for bit.

Each round starts `extract` on the same slides in a separate process and kills it with SIGKILL after a random time. When
the store is complete, it is compared file by file with an uninterrupted one, and a new store is begun. The repeated work
is counted: tiles that the encoder got before a kill and again after it, and slides whose tiles were all repeated. No
slide that was in the store may be written a second time. Half of the rounds use an encoder without a network, the others
a small network of timm's with random weights, from its exported graph in ONNX Runtime.

    python benchmarks/extraction_kills.py [--kills 50] [--encoders mean-colour onnxruntime] [--out docs/results]

With --out, encoders that are left out keep the results of earlier runs.
"""

from __future__ import annotations

import argparse
import json
import os
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
    name, dim, batch_size, precision, backend, tile_px = "mean-colour", 3, 8, "32", "numpy", 224
    identity = {"name": "mean-colour", "weights": "none", "dim": 3, "preprocessing": {}}

    def start(self, tiles):
        time.sleep(SECONDS)
        return tiles.mean(axis=(1, 2), dtype=np.float64)

    def finish(self, started):
        return started

    def find_batch_size(self):
        return self.batch_size
"""
GRAPH = """
import os, sys
from dmml.slides.encoders.build import load_encoder
from dmml.slides.extraction.extract import extract

encoder = load_encoder("test_efficientnet", os.environ["KILLED_ENCODER_WEIGHTS"], backend="onnxruntime")
"""
ENCODERS = {"mean-colour": f"SECONDS = 0.01\n{MEAN_COLOUR}\nencoder = MeanColour()\n", "onnxruntime": GRAPH}
"""{name: code that defines `encoder`}"""
CHILD = """
import os
from dmml.slides.extraction import stream

given, encode = os.open(sys.argv[4], os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream._Stream._encode

def encoding(state):
    tiles = [f"{tile.slide.request.path.stem}/{tile.magnification}/{tile.row}\\n" for tile in state.waiting]
    os.write(given, "".join(tiles).encode())
    encode(state)

stream._Stream._encode = encoding
result = extract([sys.argv[1]], sys.argv[2], encoder, readers=int(sys.argv[3]), batch_size=8)
print(len(result.written), len(result.skipped))
"""


def export_network(folder: Path) -> None:
    """Export the small network, so that a process starts in a second, without torch; the environment names the files."""
    import timm
    import torch

    from dmml.slides.encoders.build import load_encoder

    os.environ["KILLED_ENCODER_WEIGHTS"] = str(folder / "weights.pth")
    os.environ["DMML_ENCODER_CACHE"] = str(folder / "graphs")
    torch.manual_seed(0)
    torch.save(timm.create_model("test_efficientnet", num_classes=0).state_dict(), folder / "weights.pth")
    load_encoder("test_efficientnet", folder / "weights.pth", backend="onnxruntime")


def start(encoder: str, slides: Path, out: Path, readers: int) -> subprocess.Popen:
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            ENCODERS[encoder] + CHILD,
            str(slides),
            str(out),
            str(readers),
            str(encoded_tiles_file(out)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def encoded_tiles_file(store: Path) -> Path:
    """File that lists the tiles that a run passed to the encoder, one line slide/magnification/row per tile."""
    return store.parent / f"{store.stem}.given"


def encoded_tiles(store: Path) -> set[str]:
    """Tiles that the last run on a store passed to the encoder."""
    path = encoded_tiles_file(store)
    return set(path.read_text().splitlines()) if path.exists() else set()


def repeated_work(runs: list[set[str]], slides: dict[str, int]) -> list[tuple[int, int]]:
    """For each run but the last: number of tiles that a later run encoded again, and of slides with all tiles repeated.

    Args:
        runs: Tiles that each run on a store passed to the encoder.
        slides: {slide: number of tiles}.
    """
    counts = []
    for i, run in enumerate(runs[:-1]):
        again = run & set.union(*runs[i + 1 :])
        of = Counter(tile.partition("/")[0] for tile in again)
        counts.append((len(again), sum(n == slides[slide] for slide, n in of.items())))
    return counts


def written_at(store: Path) -> dict[str, tuple[int, int]]:
    """{visible slide: inode and time of its metadata, which change when it is written again}."""
    metadata = {slide: (store / "slides" / slide / "zarr.json").stat() for slide in visible(store)}
    return {slide: (status.st_ino, status.st_mtime_ns) for slide, status in metadata.items()}


def content(store: Path) -> dict[str, bytes]:
    """{file: bytes} of a store, including hidden files."""
    return {str(p.relative_to(store)): p.read_bytes() for p in sorted(store.rglob("*")) if p.is_file()}


def visible(store: Path) -> set[str]:
    folder = store / "slides"
    return {path.name for path in folder.iterdir() if path.is_dir()} if folder.is_dir() else set()


def measure(encoder: str, slides: Path, folder: Path, kills: int, readers: int, seed: int = 0) -> dict:
    """Kill and restart until `kills` kills are done and the last store is complete."""
    rng = random.Random(seed)
    begun = time.perf_counter()
    process = start(encoder, slides, folder / "whole.zarr", readers)
    if process.wait():
        raise SystemExit("the undisturbed extraction failed")
    length, whole = time.perf_counter() - begun, content(folder / "whole.zarr")
    sizes = Counter(tile.partition("/")[0] for tile in encoded_tiles(folder / "whole.zarr"))
    cut, done, stores, lost, again, redone, runs = folder / "cut" / "f.zarr", 0, 0, 0, 0, [], []
    cut.parent.mkdir()
    while True:
        before, finished = written_at(cut), False
        encoded_tiles_file(cut).unlink(missing_ok=True)
        process = start(encoder, slides, cut, readers)
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
        runs.append(encoded_tiles(cut))
        after = written_at(cut)
        lost += len(before.keys() - after.keys())
        again += sum(after[slide] != before[slide] for slide in before.keys() & after.keys())
        if finished:
            if process.returncode or content(cut) != whole:
                raise SystemExit(f"the store differs from the undisturbed one after {done} kills")
            stores += 1
            redone += repeated_work(runs, sizes)
            runs.clear()
            shutil.rmtree(cut.parent)
            cut.parent.mkdir()
            if done >= kills:
                return {
                    "encoder": encoder,
                    "readers": readers,
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
    parser.add_argument("--kills", type=int, default=50, help="of each encoder")
    parser.add_argument("--encoders", nargs="+", default=list(ENCODERS), choices=ENCODERS)
    parser.add_argument("--slides", type=int, default=8)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    from dmml.__main__ import main as dmml

    rows: list[dict] = []
    if args.out and (args.out / "extraction_kills.json").is_file():
        rows = json.loads((args.out / "extraction_kills.json").read_text())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dmml(["simulate", str(folder / "sim"), "--patients", str(args.slides), "--held-out", "1"])
        slides = folder / "sim" / "development" / "slides"
        for encoder in args.encoders:
            if encoder == "onnxruntime":
                export_network(folder)
            rows = [row for row in rows if row.get("encoder", "mean-colour") != encoder]
            for readers in (0, 1):
                work = folder / f"{encoder}-{readers}"
                work.mkdir()
                rows.append(measure(encoder, slides, work, args.kills // 2, readers, seed=readers))
                print(rows[-1], flush=True)
    rows.sort(key=lambda row: (list(ENCODERS).index(row.get("encoder", "mean-colour")), row["readers"]))
    print(page(rows))
    if args.out:
        (args.out / "extraction_kills.md").write_text(page(rows))
        (args.out / "extraction_kills.json").write_text(json.dumps(rows, indent=1) + "\n")


def page(rows: list[dict]) -> str:
    lines = [
        "# Killed extractions",
        "",
        "`python benchmarks/extraction_kills.py --kills 100 --out docs/results`: SIGKILL at a random moment of each "
        "run, then the same command again.",
        "",
        "| encoder | reading processes | kills | complete stores compared | files in each | differing | visible slides lost | "
        "visible slides written again | tiles encoded again a kill: mean, largest | slides encoded again whole |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {m.get('encoder', 'mean-colour')} | {m['readers']} | {m['kills']} | {m['stores']} | {m['files']} | 0 | "
            f"{m['lost']} | {m['written_again']} | {statistics.mean(tiles for tiles, _ in m['redone']):.1f}, "
            f"{max(tiles for tiles, _ in m['redone'])} | {sum(whole for _, whole in m['redone'])} |"
            for m in rows
        ),
        "",
        "A store counts as equal if every file, including hidden ones, has the same bytes as in the uninterrupted "
        "one; the script ends with an error at the first that differs. The slides have "
        f"{', '.join(map(str, rows[0]['tiles']))} tiles, and a batch has 8. Encoded tiles are kept beside the "
        "store until a slide is complete, so that a killed run loses at most the current batch of the encoder and "
        "the one before it.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
