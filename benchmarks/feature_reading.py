"""Reading features from a store against `numpy.load(mmap_mode="r")` and against plain zarr, from the page cache.

Each slide's features are read and summed up as a training batch would copy them: every byte goes once into an array in
memory. The three ways are measured by turns; the middle of the ratios is given.

    python benchmarks/feature_reading.py [--out docs/results]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def write(folder: Path, slides: int, tiles: int, dim: int) -> None:
    """The same features as a store and as .npy files."""
    from dmml.store import FeatureStore, SlideFeatures

    store = FeatureStore.create(
        folder / "f.zarr", {"name": "x", "weights": "", "dim": dim, "preprocessing": {}}, {20: 0.5}
    )
    rng = np.random.default_rng(0)
    for slide in range(slides):
        features = rng.standard_normal((tiles, dim), np.float32).astype(np.float16)
        store.write(str(slide), {20: SlideFeatures(features, np.zeros((tiles, 2)))}, {})
        np.save(folder / f"{slide}.npy", features)


def ways(folder: Path) -> dict:
    """{name: slide → array}."""
    import zarr

    from dmml.store import FeatureStore

    store, plain = FeatureStore(folder / "f.zarr"), zarr.open_group(str(folder / "f.zarr"), mode="r")
    return {
        "numpy.load(mmap)": lambda slide: np.load(folder / f"{slide}.npy", mmap_mode="r"),
        "FeatureStore.read": lambda slide: store.read(str(slide), 20).features,
        "zarr": lambda slide: plain[f"slides/{slide}/20x/features"][:],
    }


def gigabytes_a_second(read, slides: int, batch: np.ndarray) -> float:
    start, done = time.perf_counter(), 0
    for slide in range(slides):
        features = read(slide)
        batch[: len(features)] = features  # as collation copies a patient into its batch
        done += features.nbytes
    return done / (time.perf_counter() - start) / 1e9


def measure(folder: Path, slides: int, tiles: int, dim: int, repeats: int) -> dict:
    """{way: {"speed": GB/s, "ratio": against numpy}}."""
    write(folder, slides, tiles, dim)
    batch, readers = np.empty((tiles, dim), np.float16), ways(folder)
    turns = [
        {name: gigabytes_a_second(read, slides, batch) for name, read in readers.items()} for _ in range(repeats + 1)
    ][1:]
    return {
        name: {
            "speed": statistics.median(turn[name] for turn in turns),
            "ratio": statistics.median(turn[name] / turn["numpy.load(mmap)"] for turn in turns),
        }
        for name in readers
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    results = {}
    for tiles, dim in ((2_500, 1_024), (10_000, 1_280)):
        with tempfile.TemporaryDirectory() as name:
            results[f"{tiles} × {dim}"] = measure(Path(name), 16, tiles, dim, args.repeats)
    lines = [
        "# Reading features",
        "",
        f"`python {' '.join(['benchmarks/feature_reading.py', *sys.argv[1:]])}`: 16 slides from the page cache, each copied once into a batch.",
        "",
        "| features of a slide | way | GB/s | ratio to numpy |",
        "|---|---|---|---|",
    ]
    for size, found in results.items():
        lines += [f"| {size} | {way} | {m['speed']:.2f} | **{m['ratio']:.2f}** |" for way, m in found.items()]
    lines.append("")
    print("\n".join(lines))
    if args.out:
        (args.out / "feature_reading.md").write_text("\n".join(lines))
        (args.out / "feature_reading.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
