"""Speed of reading features from a store, compared with `numpy.load(mmap_mode="r")` and with other layouts.

Each slide's features are read as a training batch would copy them: all of them, or a sample of its tokens, are copied
once from the page cache to an array in memory. The first table has whole slides; the second compares the store's chunk
and codec with other chunks and codecs of zarr, whole and sampled, and their size on disk. All ways take turns, forwards
and backwards, and are compared within a turn; the table gives the median of the ratios with the quartiles.

    python benchmarks/feature_reading.py [--out docs/results]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

NUMPY, STORE = "numpy.load(mmap)", "FeatureStore.read"
ROWS = 1_024
"""Tokens per chunk in layouts with many chunks"""
SAMPLE = 2_048
"""Tokens drawn from a slide, as by `max_tokens`"""


def write(folder: Path, slides: int, tiles: int, dim: int) -> None:
    """Write the same features as a store, as .npy files and in other layouts."""
    import zarr

    from dmml.store import FeatureStore, SlideFeatures

    store = FeatureStore.create(
        folder / "f.zarr", {"name": "x", "weights": "", "dim": dim, "preprocessing": {}}, {20: 0.5}
    )
    rng = np.random.default_rng(0)
    for slide in range(slides):
        features = rng.standard_normal((tiles, dim), np.float32).astype(np.float16)
        store.write(str(slide), {20: SlideFeatures(features, np.zeros((tiles, 2)))}, {})
        np.save(folder / f"{slide}.npy", features)
        for name, (rows, codec) in layouts().items():
            array = zarr.create_array(
                str(folder / "layouts" / name / str(slide)),
                shape=features.shape,
                dtype=features.dtype,
                chunks=(min(rows or tiles, tiles), dim),
                compressors=codec,
            )
            array[:] = features


def layouts() -> dict[str, tuple[int | None, object]]:
    """{name: (tokens per chunk or None for a single chunk, codec or None)}."""
    from zarr.codecs import BloscCodec, ZstdCodec

    codecs = {
        "raw": None,
        "zstd": ZstdCodec(level=3),
        "lz4": BloscCodec(cname="lz4", clevel=5, shuffle="shuffle", typesize=2),
    }
    return {
        f"zarr, {codec}, {'one chunk' if rows is None else f'chunks of {rows:,}'}": (rows, made)
        for codec, made in codecs.items()
        for rows in (None, ROWS)
    }


def ways(folder: Path) -> dict[str, Callable[[int], np.ndarray]]:
    """{name: function from a slide to its whole array}."""
    import zarr

    from dmml.store import FeatureStore

    store, plain = FeatureStore(folder / "f.zarr"), zarr.open_group(str(folder / "f.zarr"), mode="r")
    return {
        NUMPY: lambda slide: np.load(folder / f"{slide}.npy", mmap_mode="r"),
        STORE: lambda slide: store.read(str(slide), 20).features,
        "zarr on the same store": lambda slide: plain[f"slides/{slide}/20x/features"][:],
    }


def samples(folder: Path, tiles: int) -> tuple[dict, dict]:
    """Functions from a slide to its whole array, and to sampled rows, by name of the layout."""
    import zarr

    from dmml.store import FeatureStore

    store, rng = FeatureStore(folder / "f.zarr"), np.random.default_rng(1)
    rows = np.sort(rng.choice(tiles, min(SAMPLE, tiles // 2), replace=False))
    opened = {
        (name, path.name): zarr.open_array(str(path), mode="r")
        for name in layouts()
        for path in (folder / "layouts" / name).iterdir()
    }
    whole: dict[str, Callable[[int], np.ndarray]] = {STORE: lambda slide: store.read(str(slide), 20).features}
    part: dict[str, Callable[[int], np.ndarray]] = {STORE: lambda slide: store.read(str(slide), 20).features[rows]}
    for name in layouts():
        whole[name] = lambda slide, name=name: opened[name, str(slide)][:]
        part[name] = lambda slide, name=name: opened[name, str(slide)].oindex[rows, :]
    return whole, part


def gigabytes_a_second(read: Callable[[int], np.ndarray], slides: int, batch: np.ndarray) -> float:
    start, done = time.perf_counter(), 0
    for slide in range(slides):
        features = read(slide)
        batch[: len(features)] = features  # as collation copies a patient into its batch
        done += features.nbytes
    return done / (time.perf_counter() - start) / 1e9


def by_turns(readers: Mapping[str, Callable], base: str, slides: int, batch: np.ndarray, repeats: int) -> dict:
    """{way: {"speed": median GB/s, "ratio": median ratio to `base` within a turn, "quartiles": of the ratio}}."""
    turns = []
    for turn in range(repeats + 1):  # the first turn is a warm-up
        order = list(readers) if turn % 2 else list(readers)[::-1]
        turns.append({name: gigabytes_a_second(readers[name], slides, batch) for name in order})
    results = {}
    for name in readers:
        ratios = [turn[name] / turn[base] for turn in turns[1:]]
        results[name] = {
            "speed": statistics.median(turn[name] for turn in turns[1:]),
            "ratio": statistics.median(ratios),
            "quartiles": np.quantile(ratios, [0.25, 0.75]).tolist(),
        }
    return results


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure(folder: Path, slides: int, tiles: int, dim: int, repeats: int) -> dict:
    """Results of `by_turns` as "against_numpy", and "layouts": {layout: {"whole", "sample": results, "size": ratio}}."""
    write(folder, slides, tiles, dim)
    batch = np.empty((tiles, dim), np.float16)
    whole, part = (by_turns(readers, STORE, slides, batch, repeats) for readers in samples(folder, tiles))
    size = {name: bytes_in(folder / "layouts" / name) for name in layouts()}
    size[STORE] = sum(bytes_in(path) for path in (folder / "f.zarr").rglob("20x/features"))
    return {
        "against_numpy": by_turns(ways(folder), NUMPY, slides, batch, repeats),
        "layouts": {
            name: {"whole": whole[name], "sample": part[name], "size": size[name] / size[STORE]} for name in whole
        },
    }


def table(results: Mapping[str, dict], slides: int) -> list[str]:
    """The page of docs/results."""

    def ratio(result: dict) -> str:
        return f"**{result['ratio']:.2f}** ({result['quartiles'][0]:.2f} to {result['quartiles'][1]:.2f})"

    lines = [
        "# Reading features",
        "",
        f"`python {' '.join(['benchmarks/feature_reading.py', *sys.argv[1:]])}`: {slides} slides from the page "
        "cache, each "
        "copied once into a batch. Ratios of speeds are taken within a turn; the tables give the median of all turns "
        "and the quartiles.",
        "",
        "| features of a slide | way | speed, ratio to numpy |",
        "|---|---|---|",
    ]
    for size, result in results.items():
        for way, measured in result["against_numpy"].items():
            cell = f"1, {measured['speed']:.2f} GB/s" if way == NUMPY else ratio(measured)
            lines.append(f"| {size} | {way} | {cell} |")
    lines += [
        "",
        "## Chunk and codec",
        "",
        f"The store keeps one raw chunk per slide. Ratios to it: speed of whole slides, speed of {SAMPLE:,} tokens "
        "drawn at "
        "random from a slide (half of its tokens if it has fewer than twice as many), size on disk. Values are "
        "normally distributed, in half precision.",
        "",
        "| features of a slide | layout | whole slides | sampled tokens | size |",
        "|---|---|---|---|---|",
    ]
    for size, result in results.items():
        for name, measured in result["layouts"].items():
            speeds = ["1", "1"] if name == STORE else [ratio(measured[which]) for which in ("whole", "sample")]
            layout = "the store's" if name == STORE else name
            lines.append(f"| {size} | {layout} | {' | '.join(speeds)} | {measured['size']:.2f} |")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--slides", type=int, default=8)
    args = parser.parse_args()
    results = {}
    for tiles, dim in ((2_500, 1_024), (10_000, 1_280)):
        with tempfile.TemporaryDirectory() as name:
            results[f"{tiles:,} × {dim:,}"] = measure(Path(name), args.slides, tiles, dim, args.repeats)
    text = "\n".join(table(results, args.slides))
    print(text)
    if args.out:
        (args.out / "feature_reading.md").write_text(text)
        (args.out / "feature_reading.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
